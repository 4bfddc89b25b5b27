from __future__ import annotations

import subprocess
import sys

import pytest

from ipad_data import load
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


def test_splits_without_images_are_left_out_with_a_warning(fashionai_raw, caplog):
    dataset = load("fashionai", fashionai_raw({"": 8}).folder, protocol="random")
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 8}
    assert "no rows for the validation and test split, which is left out" in caplog.text
