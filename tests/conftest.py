"""Real files and processes for the tests that span packages."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest
import yaml

from ipad_data.render import render_image

SMALL = {
    "base": "tiny",
    "data": {"name": "table", "options": {}, "detail_size": 48, "num_workers": 0},
    "model": {
        "options": {
            "image_size": 32,
            "embed_dim": 16,
            "latent_dim": 16,
            "crop_size": 32,
            "trunk": {"options": {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}},
            "semantic_trunk": {"options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}},
        }
    },
    "stage0": {"steps": 2, "batch_size": 16},
    "stage1": {"steps": 2, "batch_size": 16},
    "stage2": {"steps": 2, "batch_size": 16},
    "rerank": {"enabled": False},
}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with a catalogue ``my-photos`` of real JPEGs and its CSV, and a small configuration ``small.yaml``."""
    folder = tmp_path_factory.mktemp("workplace")
    photos = folder / "my-photos"
    photos.mkdir()
    rows = []
    for index in range(160):
        rendered = render_image(index, seed=5, size=64, difficulty="easy")
        rendered.image.save(photos / f"photo-{index}.jpg", quality=90)
        labels = {
            key: rendered.labels.get(f"{key}_{kind}") for key, kind in (("sleeve", "length"), ("collar", "design"))
        }
        rows.append(
            {"file_name": f"photo-{index}.jpg", **{k: "" if v is None else f"v{v}" for k, v in labels.items()}}
        )
    with (photos / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_process(workplace):
    """``run_process(arguments) -> output`` of a real process in the workplace; a failure shows what it printed."""

    def run(arguments: list[str], **environment: str) -> str:
        settings = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(workplace / "cache"),
            **environment,
        }
        result = subprocess.run(
            [sys.executable, *arguments], cwd=workplace, env=settings, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def trained(workplace, run_process):
    """``runs/tiny`` in the workplace: trained on the catalogue through ``accelerate launch``."""
    output = run_process(
        [
            "-m",
            "accelerate.commands.launch",
            "--cpu",
            "-m",
            "ipad_train",
            "--config",
            "small.yaml",
            "data.dir=my-photos",
            "output_dir=runs/tiny",
        ]
    )
    assert "validation MAP" in output
    return workplace / "runs" / "tiny"
