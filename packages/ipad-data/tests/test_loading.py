from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipad_data import DataWarning, load
from ipad_data.prepare import prepare

BUILD = (
    "import sys, datasets; datasets.disable_progress_bars(); from ipad_data import load;"
    "print(sum(rows.num_rows for rows in load('fashionai', sys.argv[1], cache_dir=sys.argv[2]).values()))"
)


@pytest.mark.multiprocess
@pytest.mark.parametrize("prepared", [False, True])
def test_two_processes_build_at_once(asen, tmp_path, prepared):
    folder = asen().folder
    if prepared:
        folder = prepare(load("fashionai", folder), tmp_path / "out", size=32).out
    command = [sys.executable, "-c", BUILD, str(folder), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.strip() == "320"


def test_builders_and_seeds_do_not_share_a_table(darn_tree, fashionai_raw):
    darn, fashionai = darn_tree(100, 1.0), fashionai_raw()
    for path in darn.folder.iterdir():
        path.rename(fashionai.folder / path.name)  # both datasets in one folder
    first = load("fashionai", fashionai.folder, "train", protocol="random")
    second = load("darn", fashionai.folder, "train", protocol="random")
    assert len(first.features["attribute_ids"].feature.names) == 8
    assert len(second.features["attribute_ids"].feature.names) == 9
    other_seed = load("fashionai", fashionai.folder, "train", protocol="random", seed=1)
    assert other_seed["value_ids"][:] != first["value_ids"][:]


@pytest.mark.filterwarnings("ignore:.*no rows for the validation and test split:ipad_data.DataWarning")
def test_folders_with_equal_content_keep_their_own_paths(fashionai_raw, tmp_path):
    tree = fashionai_raw({"": 16})
    load("fashionai", tree.folder, protocol="random")
    moved = tree.folder.rename(tmp_path / "moved \u88c5")
    row = load("fashionai", moved, "train", protocol="random")[0]
    assert row["image"]["path"].startswith(str(moved))


def test_read_only_data_folder(asen):
    tree = asen()
    folders = [tree.folder, *(path for path in tree.folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert load("fashionai", tree.folder, "train").num_rows == 160
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_splits_without_images_are_left_out_with_a_warning(fashionai_raw):
    with pytest.warns(DataWarning, match="no rows for the validation and test split, which is left out"):
        dataset = load("fashionai", fashionai_raw({"": 8}).folder, protocol="random")
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 8}


def test_a_replaced_image_gives_a_new_crop(deepfashion_tree):
    tree = deepfashion_tree()
    options = {"protocol": "random", "crop": True}
    row = load("deepfashion", tree.folder, "train", **options)[0]
    path = Path(row["image"]["path"].partition("#")[0])
    assert load("deepfashion", tree.folder, "train", **options)[0] == row
    Image.new("RGB", (48, 64), "white").save(path)
    again = load("deepfashion", tree.folder, "train", **options)[0]
    assert np.asarray(Image.open(io.BytesIO(again["image"]["bytes"]))).min() > 250


def test_a_replaced_photo_gives_new_shares_of_its_boxes(tmp_path):
    for i in range(6):
        (tmp_path / "shop").mkdir(exist_ok=True)
        Image.new("RGB", (40, 20)).save(tmp_path / "shop" / f"{i}.png")
    lines = [f"{i}.png,{'xy'[i % 2]},train,10 5 20 10" for i in range(6)]
    (tmp_path / "shop" / "labels.csv").write_text("\n".join(["file_name,color,split,color_box", *lines]))
    with pytest.warns(DataWarning, match="no images for the given split of validation and test"):
        assert load("table", tmp_path / "shop", "train", box_format="pixels")[0]["boxes"] == [[[0.25, 0.25, 0.5, 0.5]]]
    Image.new("RGB", (80, 40)).save(tmp_path / "shop" / "0.png")
    with pytest.warns(DataWarning, match="no images for the given split of validation and test"):
        rows = load("table", tmp_path / "shop", "train", box_format="pixels")
    assert rows[0]["boxes"] == [[[0.125, 0.125, 0.25, 0.25]]]


@pytest.mark.parametrize("inside", ["data_dir", "images_dir"])
def test_the_cache_may_not_lie_in_the_data(asen, tmp_path, inside):
    tree = asen()
    options = {}
    if inside == "images_dir":
        (tree.folder / "Images").rename(tmp_path / "Images")
        options["images_dir"] = tmp_path / "Images"
    cache = (tree.folder if inside == "data_dir" else tmp_path / "Images") / "cache"
    with pytest.raises(
        ValueError, match=r"cache_dir must be outside of the data in .*, got .*cache; it would be taken"
    ):
        load("fashionai", tree.folder, cache_dir=cache, missing_images="skip", **options)
    assert not cache.exists()


def test_what_is_to_be_said_of_the_data_is_said_from_the_cache_too(asen):
    tree = asen()
    for path in tree.folder.glob("*_test.txt"):
        path.unlink()
    for _ in range(2):
        with pytest.warns(DataWarning, match="no split files of test"):
            load("fashionai", tree.folder)


@pytest.mark.parametrize("prepared", [False, True])
def test_licence_and_citation_are_told_as_datasets_tells_them(asen, tmp_path, prepared):
    folder = asen().folder
    if prepared:
        folder = prepare(load("fashionai", folder), tmp_path / "out", size=32).out
    info = load("fashionai", folder, "train").info
    assert "Tianchi" in info.license
    assert "zou2019fashionai" in info.citation
    assert info.homepage.startswith("https://tianchi")


def test_slices_of_splits(asen):
    folder = asen().folder
    assert load("fashionai", folder, "train[:10%]")["image_id"] == list(range(16))
    assert load("fashionai", folder, "train[10:12]+test[:1]")["image_id"] == [10, 11, 0]
    with pytest.raises(
        ValueError, match=r"split must be one of train, validation, test, or slices .* got 'valid\[:3\]'"
    ):
        load("fashionai", folder, "valid[:3]")
