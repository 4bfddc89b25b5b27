"""Real processes: the launchers, two ranks over gloo, SIGTERM, SIGINT and SIGKILL."""

from __future__ import annotations

import json
import signal
import time

import pytest

from ipad_train.checkpoint import find_checkpoint
from ipad_train.training import Training

pytestmark = pytest.mark.multiprocess

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ipad_train"]


def test_two_processes_train_and_hold_equal_queues(small_config, run_process, tmp_path):
    short = ["stage0.steps=0", "stage1.steps=0", "stage2.steps=2"]
    arguments = ["--config", str(small_config.path), f"output_dir={tmp_path / 'run'}", *short]
    result = run_process([*TORCHRUN, *arguments], ACCELERATE_USE_CPU="true")
    assert "2 processes, MULTI_CPU" in result.stdout
    state = json.loads((find_checkpoint(tmp_path / "run") / "state.json").read_text())
    assert state["world_size"] == 2
    assert sorted(state["files"]) == sorted(
        [
            "model/README.md",
            "model/config.json",
            "model/model.safetensors",
            "objective.safetensors",
            "optimizer-0.safetensors",
            "optimizer-1.safetensors",
            "random-0.safetensors",
            "random-1.safetensors",
        ]
    )


def wait_for_a_checkpoint(run, running):
    deadline = time.monotonic() + 400
    while find_checkpoint(run) is None and running.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_when_one_process_dies_the_other_ends_with_the_reason_within_a_minute(small_config, commands, tmp_path):
    run, settings = tmp_path / "run", ["stage0.steps=5000", "loop.save_every=5", "loop.log_every=1000"]
    survivor, victim = commands.start_ranks(2, "--config", small_config.path, f"output_dir={run}", *settings)
    wait_for_a_checkpoint(run, survivor)
    killed = time.monotonic()
    assert victim.kill() == -signal.SIGKILL
    assert survivor.wait() > 0
    assert time.monotonic() - killed < 60
    assert find_checkpoint(run) is not None
    assert "another process of this run is gone, and process 0 ends with it" in survivor.text()
    assert "--resume auto continues there" in survivor.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_run_that_resumes(small_config, commands, interrupt, tmp_path, number):
    run = tmp_path / "run"
    longer = ["loop.save_every=5", "loop.log_every=500", "stage0.steps=2000", "stage1.steps=0", "stage2.steps=0"]
    process = commands.start("--config", small_config.path, f"output_dir={run}", *longer)
    wait_for_a_checkpoint(run, process)
    code, output, found = process.kill(number), process.text(), find_checkpoint(run)
    assert found is not None, output
    assert code == 128 + number
    assert "--resume auto continues there" in output
    # The run goes on from the checkpoint; a shorter stage would be another configuration, so it dies again.
    step = int(found.name.removeprefix("step-"))
    said: list[str] = []
    undo = interrupt(step + 1)
    with pytest.raises(interrupt.Error):
        Training(small_config(*longer, "loop.log_every=1"), "auto", said.append).run()
    undo()
    assert any(f"from step {step}" in line for line in said)
