"""Real processes: the launchers, two ranks over gloo, SIGTERM, SIGINT and SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from ipad_train.checkpoint import find_checkpoint
from ipad_train.training import Training

pytestmark = pytest.mark.multiprocess

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ipad_train"]


def test_two_processes_train_and_hold_equal_queues(small_config, run_process, tmp_path):
    arguments = ["--config", str(small_config.path), f"output_dir={tmp_path / 'run'}"]
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


def test_when_one_process_dies_the_others_end_with_the_reason_within_a_minute(small_config, tmp_path):
    # The launcher tells the survivor to end as well. Where that comes before it has noticed, it may have nothing to say.
    reason = "another process of this run is gone, and process 0 ends with it"
    outputs = []
    while len(outputs) < 3 and not any(reason in output for output in outputs):
        outputs.append(output_of_a_survivor(small_config, tmp_path / f"run{len(outputs)}"))
    assert reason in outputs[-1], outputs
    assert "--resume auto continues there" in outputs[-1]


def output_of_a_survivor(small_config, run) -> str:
    arguments = ["--config", str(small_config.path), f"output_dir={run}", "stage0.steps=5000", "loop.save_every=5"]
    launcher = subprocess.Popen(
        [sys.executable, *TORCHRUN, *arguments, "loop.log_every=1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while find_checkpoint(run) is None and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [child for child in psutil.Process(launcher.pid).children() if child.environ().get("RANK")]
    assert sorted(worker.environ()["RANK"] for worker in workers) == ["0", "1"]
    (victim,) = [worker for worker in workers if worker.environ()["RANK"] == "1"]
    killed = time.monotonic()
    victim.kill()
    output = launcher.communicate(timeout=120)[0]
    assert time.monotonic() - killed < 60
    assert launcher.returncode != 0
    assert find_checkpoint(run) is not None
    return output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_run_that_resumes(small_config, interrupt, tmp_path, number):
    run = tmp_path / "run"
    longer = ["loop.save_every=5", "stage0.steps=2000", "stage1.steps=0", "stage2.steps=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ipad_train", "--config", str(small_config.path), f"output_dir={run}", *longer],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 400
    while find_checkpoint(run) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    found = find_checkpoint(run)
    assert found is not None, output
    assert process.returncode == 128 + number
    assert "--resume auto continues there" in output
    # The run goes on from the checkpoint; a shorter stage would be another configuration, so it dies again.
    step = int(found.name.removeprefix("step-"))
    said: list[str] = []
    undo = interrupt(step + 1)
    with pytest.raises(interrupt.Error):
        Training(small_config(*longer, "loop.log_every=1"), "auto", said.append).run()
    undo()
    assert any(f"from step {step}" in line for line in said)


def test_python_dash_m_prints_help(run_process):
    result = run_process(["-m", "ipad_train", "--help"])
    assert "KEY=VALUE" in result.stdout
