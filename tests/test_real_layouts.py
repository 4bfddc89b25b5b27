"""Trees of the real datasets, generated with their exact headers and quirks, train two steps and evaluate."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from ipad_data import EntryTable, load

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("real_trees", ROOT / "packages/ipad-data/tests/trees.py")
_trees = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _trees  # its dataclasses look themselves up
_spec.loader.exec_module(_trees)
fashionai_raw, darn_tree, deepfashion_tree = _trees.fashionai_raw, _trees.darn_tree, _trees.deepfashion_tree
ccp_tree = _trees.ccp_tree

pytestmark = pytest.mark.multiprocess
PREPARE = "from ipad_data.cli import main; main()"
SMALL = [
    "data.detail_size=48",
    "data.num_workers=0",
    "model.name=ipad_tiny",
    "model.options={image_size: 32, embed_dim: 16, latent_dim: 16, crop_size: 32}",
    "stage1.steps=2",
    "stage1.batch_size=4",
    "stage2.steps=2",
    "stage2.batch_size=4",
    "clusters.queue_length=2",
    "rerank.enabled=false",
    "loop.mixed_precision=no",
]


@pytest.mark.parametrize(
    ("name", "fixture", "size", "options"),
    [
        ("fashionai", "fashionai_raw", {"counts": {"": 1600}}, "{protocol: random}"),
        ("darn", "darn_tree", {"count": 800}, "{protocol: random, missing_images: skip}"),
        ("deepfashion", "deepfashion_tree", {"count": 600}, "{protocol: random}"),
    ],
)
def test_the_preset_trains_and_evaluates_on_the_real_layout(
    request, run_process, tmp_path, name, fixture, size, options
):
    tree = request.getfixturevalue(fixture)(**size)
    train_and_evaluate(run_process, name, tree.folder, tmp_path / "run", f"data.options={options}")


def test_the_preset_of_photos_trains_and_evaluates_on_clothing_co_parsing(ccp_tree, run_process, tmp_path):
    small = ["data.name=ccp", "stage0.steps=2", "stage0.batch_size=4"]
    train_and_evaluate(run_process, "photos", ccp_tree(400).folder, tmp_path / "run", *small)


def test_the_preset_trains_and_evaluates_on_a_prepared_folder(fashionai_raw, run_process, tmp_path):
    tree, out = fashionai_raw({"": 1600}), tmp_path / "prepared"
    run_process(
        [
            "-c",
            PREPARE,
            "prepare",
            "fashionai",
            str(tree.folder),
            "--out",
            str(out),
            "--size",
            "48",
            "-o",
            "protocol=random",
        ]
    )
    results = train_and_evaluate(run_process, "fashionai", out, tmp_path / "run", "data.num_workers=2")
    originals = load("fashionai", tree.folder, "test", protocol="random", cache_dir=tmp_path / "cache")
    assert results["queries"] == len(EntryTable.from_dataset(originals, "query"))


def train_and_evaluate(run_process, name: str, folder: Path, run: Path, *more: str) -> dict:
    overrides = [f"data.dir={folder}", f"output_dir={run}", *SMALL, *more]
    run_process(["-m", "accelerate.commands.launch", "--cpu", "-m", "ipad_train", "--config", name, *overrides])
    run_process(["-m", "ipad_train", "evaluate", str(run)])
    results = json.loads((run / "evaluation-test.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in results["rows"]]
    assert names[0] == "random"
    assert names[-3:] == ["IP-SP", "IP-SE", "fused"]  # the last stage; rows of earlier ones stand before it
    assert all(0 <= row["overall"] <= 100 for row in results["rows"])
    assert results["queries"] > 0
    return results
