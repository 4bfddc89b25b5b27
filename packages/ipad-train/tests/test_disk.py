"""Runs on a real disk that fills up, or that nobody may write to."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from ipad_train import training
from ipad_train.checkpoint import find_checkpoint, read_state
from ipad_train.cli import main


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MiB below a folder whose name is not ASCII."""
    place = tmp_path / "Läufe auf 小さなディスク"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield place
    subprocess.run(["umount", place], check=True)


def train(small_config, folder, *more):
    settings = ("stage0.steps=0", "stage2.steps=0", "stage1.steps=4", "loop.save_every=1", "loop.log_with=[]")
    arguments = ["--config", str(small_config.path), f"output_dir={folder}", *settings, *more]
    result = CliRunner().invoke(main, arguments)
    assert "Traceback" not in result.output
    return result


def test_a_full_disk_ends_a_run_in_a_sentence_and_with_room_it_goes_on(small_config, disk, monkeypatch):
    original, filler = training.save_progress, disk / "filler"

    def save_and_fill(*arguments):
        original(*arguments)
        if not filler.exists():
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - 16_384))

    monkeypatch.setattr(training, "save_progress", save_and_fill)
    result = train(small_config, disk / "run")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "Error: there is no room to write" in result.output
    assert "No space left on device" in result.output
    assert read_state(find_checkpoint(disk / "run"))["step"] == 1
    monkeypatch.undo()
    filler.unlink()
    result = train(small_config, disk / "run", "--resume", "auto")
    assert result.exit_code == 0, result.output
    assert "stage1: 4 steps of 16, from step 1" in result.output


def test_a_disk_that_cannot_be_written_to_is_named_before_anything_is_loaded(small_config, disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    result = train(small_config, disk / "run")
    assert result.exit_code == 1
    assert "Read-only file system" in result.output
    assert str(disk / "run") in result.output.replace("\n", "")
