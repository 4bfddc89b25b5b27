"""Whole runs under DeepSpeed on a GPU, in half precision: saved, resumed, finite."""

from __future__ import annotations

import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file

from ipad_train.checkpoint import checkpoint_path, read_state
from ipad_train.tracking import read_metrics

pytestmark = pytest.mark.gpu
pytest.importorskip("deepspeed")

RUN = """
import torch
torch.use_deterministic_algorithms(True, warn_only=True)
from ipad_train.cli import main
main()
"""
SETTINGS = [
    "data.options.num_train=400",
    "data.options.num_validation=120",
    "data.options.num_test=120",
    *(f"{stage}.steps=20" for stage in ("stage0", "stage1", "stage2")),
    "clusters.queue_length=3",
    "clusters.refresh_every=5",
    "clusters.start=0.2",
    "values.enabled=false",
    "rerank.enabled=false",
    "loop.log_every=1",
    "loop.save_every=10",
    "loop.keep_checkpoints=9",
]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_in_half_precision_learns_and_resumes(run_process, tmp_path, stage, precision):
    def train(name, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        run_process(
            ["-c", RUN, "train", "--config", "tiny", *SETTINGS, f"output_dir={tmp_path / name}", *arguments],
            RANK="0",
            LOCAL_RANK="0",
            WORLD_SIZE="1",
            LOCAL_WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            ACCELERATE_USE_DEEPSPEED="true",
            ACCELERATE_DEEPSPEED_ZERO_STAGE=str(stage),
            ACCELERATE_MIXED_PRECISION=precision,
            CUBLAS_WORKSPACE_CONFIG=":4096:8",
        )
        return tmp_path / name

    straight = train("straight")
    shutil.copytree(straight, tmp_path / "resumed")
    shutil.rmtree(checkpoint_path(tmp_path / "resumed", 60))  # as if it had died in stage 2
    resumed = train("resumed", "--resume", "auto")
    middle, end, again = checkpoint_path(straight, 50), checkpoint_path(straight, 60), checkpoint_path(resumed, 60)
    states = [read_state(path) for path in (end, again)]
    for key in ("scaler", "health", "stage", "stage_step"):
        assert states[0][key] == states[1][key], key
    assert (states[0]["scaler"] != {}) == (precision == "fp16")
    assert states[0]["health"]["skipped"] == 0
    rows = [row for row in read_metrics(straight) if "loss" in row]
    assert len(rows) > (30 if precision == "fp16" else 59)  # the scaler leaves steps out while it looks for its scale
    assert all(("loss_scale" in row) == (precision == "fp16") for row in rows)
    first, last, other = (load_file(path / "model" / "model.safetensors") for path in (middle, end, again))
    assert all(tensor.isfinite().all() for tensor in last.values() if tensor.is_floating_point())
    equal = sum(torch.equal(tensor, other[name]) for name, tensor in last.items())
    print(f"ZeRO-{stage}, {precision}: {equal} of {len(last)} tensors of the resumed run are the same to the bit")
    moved = sum((last[name] - first[name]).double().norm() ** 2 for name in last if last[name].is_floating_point())
    apart = sum((last[name] - other[name]).double().norm() ** 2 for name in last if last[name].is_floating_point())
    assert moved > 0
    assert apart < 0.01 * moved  # some kernels of a GPU add up in any order
    momentum = load_file(end / "objective.safetensors")
    networks = {name: tensor for name, tensor in momentum.items() if "momentum.network" in name}
    assert networks
    assert all(tensor.dtype == torch.float32 for tensor in networks.values() if tensor.is_floating_point())
    assert all(tensor.isfinite().all() for tensor in networks.values() if tensor.is_floating_point())
