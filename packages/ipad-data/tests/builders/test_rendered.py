from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipad_data import AttributeSchema, load
from ipad_data.render import SCHEMA, render_image
from ipad_data.render.export import write_rendered


def test_splits_roles_and_schema(rendered):
    assert {split: len(rendered[split]) for split in rendered} == {"train": 160, "validation": 20, "test": 20}
    assert AttributeSchema.from_features(rendered["train"].features) == SCHEMA
    assert {role for roles in rendered["train"]["roles"] for role in roles} == {0}
    for split in ("validation", "test"):
        roles = [set(roles) for roles in rendered[split]["roles"]]
        assert roles.count({1}) == 4
        assert roles.count({2}) == 16


def test_rows_hold_the_image_of_their_index(rendered):
    row = rendered["test"][3]
    expected = render_image(160 + 20 + 3, size=64)
    image = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])), dtype=float)
    assert np.abs(image - np.asarray(expected.image)).mean() < 4  # JPEG
    names = [SCHEMA.value_names[value] for value in row["value_ids"]]
    assert names == [f"{attribute}/{value}" for attribute, value in expected.labels.items()]
    for boxes, attribute in zip(row["boxes"], expected.labels, strict=True):
        np.testing.assert_allclose(boxes, expected.boxes[attribute], atol=1e-6)


def test_split_sizes_can_be_given(tmp_path):
    found = load("rendered", num_train=12, num_validation=3, num_test=5, size=32)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [12, 3, 5]


def test_several_processes_build_the_same(tmp_path):
    one = load("rendered", num_images=640, size=32, split="train", cache_dir=tmp_path / "one")
    two = load("rendered", num_images=640, size=32, split="train", cache_dir=tmp_path / "two", num_proc=2)
    assert one["image_id"] == two["image_id"]
    assert one["value_ids"] == two["value_ids"]
    assert one[511]["image"] == two[511]["image"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_image": 5}, "no option 'num_image'; did you mean one of: num_images"),
        ({"num_images": 3}, "num_images must be at least 10, got 3"),
        ({"num_test": 0}, "num_test must be at least 1, got 0"),
        ({"difficulty": "extreme"}, "difficulty must be one of"),
        ({"data_dir": "somewhere"}, "data_dir must be left out"),
        ({"num_images": 10, "size": 32, "split": "dev"}, "split must be one of train, validation, test, or slices"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        load("rendered", **options)


def test_unknown_dataset_lists_the_nearest():
    with pytest.raises(ValueError, match="unknown dataset 'rendred'; did you mean one of: rendered"):
        load("rendred")


BUILD = """
import sys, ipad_data
print(len(ipad_data.load("rendered", num_images=300, size=32, cache_dir=sys.argv[1])["train"]))
"""


@pytest.mark.multiprocess
def test_two_processes_build_at_once(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["240", "240"]
    assert [process.returncode for process in started] == [0, 0]


MEMORY = """
import resource, sys, ipad_data
ipad_data.load('rendered', num_images=20, size=32, cache_dir=sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ipad_data.load('rendered', num_images=5000, size=64, cache_dir=sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs getrusage")
def test_building_streams(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    grown = int(done.stdout)
    assert grown < 60 * 2**20  # 5,000 images decoded are 61 MB, and their JPEGs 20 MB; writer batches are 1,000 rows


def test_export_writes_the_same_images_with_label_files(tmp_path):
    files = write_rendered(tmp_path / "out", num_images=30, size=32, progress=False)
    assert {file.name for file in files} >= {
        "filenames_train.txt",
        "label_train.txt",
        "candidate_test.txt",
        "meta.json",
    }
    names = (tmp_path / "out" / "filenames_test.txt").read_text().split()
    assert names == ["Images/test/000000.jpg", "Images/test/000001.jpg", "Images/test/000002.jpg"]
    expected = np.asarray(render_image(24 + 3 + 1, size=32).image, dtype=float)
    assert np.abs(np.asarray(Image.open(tmp_path / "out" / names[1]), dtype=float) - expected).mean() < 8
    boxes = [json.loads(line) for line in (tmp_path / "out" / "boxes.jsonl").read_text().splitlines()]
    assert len(boxes) == 30
    assert boxes[28]["file"] == names[1]
    with pytest.raises(ValueError, match="out_dir must be a new or empty folder"):
        write_rendered(tmp_path / "out", num_images=30, size=32, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_export_reads_back_as_published_split_files(tmp_path):
    sizes = {"num_train": 12, "num_validation": 10, "num_test": 5, "size": 32}
    write_rendered(tmp_path / "out", progress=False, **sizes)
    direct, again = load("rendered", **sizes), load("fashionai", tmp_path / "out")
    assert {split: len(rows) for split, rows in again.items()} == {"train": 12, "validation": 10, "test": 5}
    schema = AttributeSchema.from_features(direct["train"].features)
    for split, rows in direct.items():
        assert AttributeSchema.from_features(again[split].features) == schema
        for row, other in zip(rows, again[split], strict=True):
            assert all(row[column] == other[column] for column in ("image_id", "attribute_ids", "value_ids", "roles"))
            assert row["image"]["bytes"] == Path(other["image"]["path"]).read_bytes()


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ipad_data.render.export.write_splits", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match="full"):
        write_rendered(tmp_path / "out", num_images=10, size=32, progress=False)
    assert not list(tmp_path.iterdir())
