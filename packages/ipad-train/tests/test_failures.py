"""Errors of torch in the words of the user."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
import torch.distributed as dist
from click.testing import CliRunner

from ipad_train import training
from ipad_train.cli import main
from ipad_train.failures import explain
from ipad_train.launcher import check_launcher


def test_a_worker_that_dies_is_named_with_what_to_do(small_config, monkeypatch):
    original = training.start_stage

    def start(*arguments):
        run = original(*arguments)
        next(run.batches)
        for child in psutil.Process().children(recursive=True):
            if child.is_running():
                os.kill(child.pid, signal.SIGKILL)
        return run

    monkeypatch.setattr(training, "start_stage", start)
    result = CliRunner().invoke(
        main,
        [
            "--config",
            str(small_config.path),
            f"output_dir={small_config().output_dir}",
            "data.num_workers=1",
            "stage0.steps=50",
            "stage1.steps=0",
            "stage2.steps=0",
        ],
    )
    assert result.exit_code == 1
    assert "a worker that decodes images died" in result.output
    assert "set data.num_workers lower" in result.output
    assert "Traceback" not in result.output


def test_ports_and_other_errors(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("MASTER_ADDR", "main.host")
    assert explain(dist.DistNetworkError("... (errno: 98 - Address already in use).")).startswith(
        "port 29500 is taken"
    )
    assert "do not meet at main.host:29500" in explain(dist.DistNetworkError("The client socket has timed out"))
    assert explain(RuntimeError("something else")) is None


def test_a_missing_port_is_named():
    with pytest.raises(ValueError, match=r"WORLD_SIZE=2 announces several processes, and MASTER_PORT is not set"):
        check_launcher({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"})
    check_launcher({"WORLD_SIZE": "1"})
