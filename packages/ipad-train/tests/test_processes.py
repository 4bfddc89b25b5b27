"""Real processes: the launchers, two ranks over gloo, DeepSpeed on the CPU, SIGTERM and SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ipad_train.checkpoint import find_checkpoint
from ipad_train.tracking import read_metrics

pytestmark = pytest.mark.multiprocess

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ipad_train"]


def test_two_processes_train_and_hold_equal_queues(small_config, run_process, tmp_path):
    arguments = ["--config", str(small_config.path), f"output_dir={tmp_path / 'run'}"]
    result = run_process([*TORCHRUN, *arguments], ACCELERATE_USE_CPU="true")
    assert "2 processes, MULTI_CPU" in result.stdout
    state = json.loads((find_checkpoint(tmp_path / "run") / "state.json").read_text())
    assert state["world_size"] == 2
    assert sorted(state["files"]) == sorted(
        ["model/README.md", "model/config.json", "model/model.safetensors", "objective.safetensors",
         "optimizer-0.safetensors", "optimizer-1.safetensors", "random-0.safetensors", "random-1.safetensors"]
    )  # fmt: skip


def test_queues_are_equal_on_all_ranks(run_process, tmp_path):
    script = tmp_path / "queues.py"
    script.write_text(
        "import torch, torch.distributed as dist\n"
        "from ipad_core.clustering import FeatureQueue\n"
        "from ipad_train.distributed import gather_entries\n"
        "dist.init_process_group('gloo')\n"
        "rank = dist.get_rank(); assert dist.get_world_size() == 2\n"
        "features = torch.full((3 + rank, 2), float(rank)); ids = torch.arange(3 + rank)\n"
        "ids, features = gather_entries(ids, features)\n"
        "assert ids.tolist() == [0, 1, 2, 0, 1, 2, 3], ids\n"
        "assert features[:, 0].tolist() == [0.0] * 3 + [1.0] * 4\n"
        "queue = FeatureQueue(5, 2, 2); queue.enqueue(features, ids)\n"
        "others = [torch.empty_like(queue.storage) for _ in range(2)]\n"
        "dist.all_gather(others, queue.storage)\n"
        "assert torch.equal(others[0], others[1])\n"
        "import sys; sys.stdout.write(f'equal on rank {rank};')\n"
    )
    result = run_process(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)])
    assert "equal on rank 0;" in result.stdout
    assert "equal on rank 1;" in result.stdout


def test_deepspeed_zero_2_trains_a_few_steps_and_resumes(small_config, run_process, tmp_path):
    pytest.importorskip("deepspeed")
    arguments = ["--config", str(small_config.path), f"output_dir={tmp_path / 'run'}", "loop.save_every=1"]
    environment = {  # with ACCELERATE_USE_CPU, Accelerate would leave DeepSpeed out
        "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2",
        "DS_ACCELERATOR": "cpu",
    }  # fmt: skip
    result = run_process([*TORCHRUN, *arguments], **environment)
    assert "2 processes, DEEPSPEED" in result.stdout
    losses = [row["loss"] for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert len(losses) == 9
    again = run_process([*TORCHRUN, *arguments, "--resume", "auto"], **environment)
    assert "stage2: 4 steps of 16, from step 4" in again.stdout


def test_deepspeed_zero_3_is_refused_with_the_reason(small_config, run_process, tmp_path):
    pytest.importorskip("deepspeed")
    result = run_process(
        [*TORCHRUN, "--config", str(small_config.path), f"output_dir={tmp_path / 'run'}"], check=False,
        ACCELERATE_USE_DEEPSPEED="true", ACCELERATE_DEEPSPEED_ZERO_STAGE="3",
        DS_ACCELERATOR="cpu",
    )  # fmt: skip
    assert result.returncode != 0
    assert "ZeRO-3 partitions the parameters" in result.stdout + result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_a_run_that_resumes(small_config, run_process, tmp_path, number):
    run = tmp_path / "run"
    arguments = ["-m", "ipad_train", "--config", str(small_config.path), f"output_dir={run}", "loop.save_every=5"]
    longer = [*arguments, "stage0.steps=2000", "stage1.steps=0", "stage2.steps=0"]
    process = subprocess.Popen(
        [sys.executable, *longer], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while find_checkpoint(run) is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    found = find_checkpoint(run)
    assert found is not None, output
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert "--resume auto continues there" in output
    step = int(found.name.removeprefix("step-"))
    # The run goes on from the checkpoint and ends (a shorter stage would be another configuration, so kill it again).
    resumed = subprocess.Popen(
        [sys.executable, *longer, "--resume", "auto"], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while (
        (find_checkpoint(run) or found).name == found.name and resumed.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    resumed.send_signal(signal.SIGTERM)
    assert f"from step {step}" in resumed.communicate(timeout=60)[0]
    assert find_checkpoint(run).name > found.name


def test_python_dash_m_prints_help(run_process):
    result = run_process(["-m", "ipad_train", "--help"])
    assert "KEY=VALUE" in result.stdout
