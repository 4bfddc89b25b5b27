from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from ipad_train.checkpoint import (
    CheckpointError,
    checkpoint_path,
    find_checkpoint,
    read_state,
    recover_folder,
    replace_folder,
    write_checkpoint,
)


def write(run_dir, step, keep=2, fail=False):
    def shared(folder):
        save_file({"w": torch.full((4,), float(step))}, folder / "objective.safetensors")
        if fail:
            raise OSError(28, "No space left on device")

    return write_checkpoint(
        run_dir, step, {"stage": "stage1"}, shared, lambda folder: None, keep=keep, is_main=True, barrier=lambda: None
    )


def test_the_newest_is_found_and_old_ones_are_removed(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 3)
    assert not checkpoint_path(tmp_path, 1).exists()
    assert read_state(checkpoint_path(tmp_path, 2))["step"] == 2


def test_none_where_there_is_none(tmp_path):
    assert find_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "delete", "state"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, damage):
    write(tmp_path, 1)
    newest = write(tmp_path, 2)
    file = newest / ("state.json" if damage == "state" else "objective.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    elif damage == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: 0 if damage == "empty" else len(content) // 2])
    with pytest.raises(CheckpointError, match=file.name):
        read_state(newest)
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, 2, fail=True)
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)
    write(tmp_path, 2)  # the half-written folder is in nobody's way
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 2)


def test_a_pickle_in_disguise_is_no_checkpoint(tmp_path):
    import pickle

    path = write(tmp_path, 1)
    (path / "state.json").write_bytes(pickle.dumps({"files": {}}))
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_state(path)


def test_replacing_a_folder_survives_a_kill_between_its_renames(tmp_path):
    final = tmp_path / "best"
    replace_folder(final, lambda folder: (folder / "config.json").write_text(json.dumps(1)))
    final.rename(tmp_path / ".old-best")  # as a kill between the two renames leaves it
    recover_folder(final)
    assert json.loads((final / "config.json").read_text()) == 1
    replace_folder(final, lambda folder: (folder / "config.json").write_text(json.dumps(2)))
    assert json.loads((final / "config.json").read_text()) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best"]
