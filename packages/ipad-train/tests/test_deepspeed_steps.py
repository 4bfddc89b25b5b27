"""DeepSpeed ZeRO-1 and ZeRO-2 with one and two processes, in float32 and bf16, against plain steps of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

pytestmark = pytest.mark.multiprocess
pytest.importorskip("deepspeed")

SCRIPT = Path(__file__).parent / "processes" / "steps.py"
BOTH = [
    "stage0.steps=0",
    "stage1.steps=0",
    "stage2.steps=4",
    "loop.log_every=1",
    "loop.threads=1",
    "stage2.batch_size=8",
    "stage2.sampler=triplet",
    "stage2.spatial_learning_rate=1e-3",
    "stage2.learning_rate=1e-3",
    "stage2.warmup=0",
    "clusters.start=0",
    "clusters.queue_length=1",
    "loop.batch_norm=frozen",
]
PLAIN = {
    "plain": BOTH,
    "plain bf16": [*BOTH, "loop.mixed_precision=bf16"],
    "plain accumulated": [*BOTH, "stage2.accumulation=2"],
    "plain skipped": [*BOTH, "spoil"],
}
ENGINE = ["env:ACCELERATE_USE_DEEPSPEED=true", "env:DS_ACCELERATOR=cpu"]
ZERO = {
    f"zero{stage} {name}": [*BOTH, *ENGINE, f"env:ACCELERATE_DEEPSPEED_ZERO_STAGE={stage}", *overrides]
    for stage, name, *overrides in (
        (1, "float32"),
        (2, "float32"),
        (1, "bf16", "loop.mixed_precision=bf16"),
        (2, "bf16", "env:ACCELERATE_MIXED_PRECISION=bf16"),
        (2, "accumulated", "env:ACCELERATE_GRADIENT_ACCUMULATION_STEPS=2"),
        (2, "skipped", "spoil"),
        (2, "clipped", "stage2.gradient_clip=1e-12"),
        (2, "resumed", "loop.mixed_precision=bf16", "resume"),
        (2, "offloaded", "env:ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE=cpu"),
    )
}
# With one process: what the engine, its stage and the precision change. The rest is of two.
ALONE = {name: case for name, case in ZERO.items() if name.split()[1] in ("float32", "bf16", "resumed", "skipped")}
OTHERS = ("clipped", "resumed")  # which have tests of their own
LIKE = {"bf16": "plain bf16", "accumulated": "plain accumulated", "skipped": "plain skipped"}


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_settings):
    """By number of processes and case, the tensors of the first process."""
    folder = tmp_path_factory.mktemp("deepspeed")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump({**small_settings, "output_dir": str(folder / "run")}), encoding="utf-8")
    parts = ((0, PLAIN), (1, ALONE), (2, ZERO))
    plan = [
        [processes, [";".join([name, *overrides]) for name, overrides in cases.items()]] for processes, cases in parts
    ]
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(config), str(folder), json.dumps(plan)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    counts = [(max(processes, 1), name) for processes, cases in parts for name in cases]
    return {(count, name): load_file(folder / f"{name}-{count}-0.safetensors") for count, name in counts}


def of_kind(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{kind}/"): value for key, value in tensors.items() if key.startswith(f"{kind}/")}


def moved(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    before, after = of_kind(tensors, "before"), of_kind(tensors, "after")
    weights = [key for key in sorted(before) if "running" not in key and "num_batches" not in key]
    return torch.cat([(after[key] - before[key]).flatten() for key in weights])


@pytest.mark.parametrize(
    ("name", "processes"),
    [(name, count) for count, cases in ((1, ALONE), (2, ZERO)) for name in cases if name.split()[1] not in OTHERS],
)
def test_deepspeed_does_the_steps_of_one_plain_process(results, name, processes):
    kind = name.split()[1]
    expected, actual = results[1, LIKE.get(kind, "plain")], results[processes, name]
    rtol, atol = (2e-2, 1e-2) if kind == "bf16" else (2e-3, 2e-4)
    for key, losses in of_kind(expected, "losses").items():
        if key.startswith(("active", "gradient_norm", "effective_rank")) and kind == "bf16":
            continue
        torch.testing.assert_close(
            actual[f"losses/{key}"],
            losses,
            rtol=0.1 if key.startswith("effective_rank") else rtol,
            atol=atol,
            equal_nan=True,
            msg=key,
        )
    if kind == "bf16":
        plain = results[1, "plain"]["losses/loss"]
        assert not torch.equal(expected["losses/loss"], plain)
        assert not torch.equal(actual["losses/loss"], plain)
    one, other = moved(expected), moved(actual)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    assert cosine > (0.9 if kind == "bf16" else 0.99)
    torch.testing.assert_close(other.norm(), one.norm(), rtol=0.1 if kind == "bf16" else 0.02, atol=0)


def test_deepspeed_clips_gradients_as_the_configuration_says(results):
    """At a norm of 1e-12 Adam's own epsilon swallows the gradients: what moves is weight decay."""
    assert moved(results[2, "zero2 clipped"]).norm() < 0.2 * moved(results[1, "plain"]).norm()


@pytest.mark.parametrize("processes", [1, 2])
def test_deepspeed_resumes_to_the_bit(results, processes):
    straight, resumed = results[processes, "zero2 bf16"], results[processes, "zero2 resumed"]
    for kind in ("after", "memory"):
        expected = of_kind(straight, kind)
        assert expected
        assert all(torch.equal(resumed[f"{kind}/{key}"], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["zero1 bf16", "zero2 bf16"])
def test_the_momentum_encoder_moves_beside_a_network_in_bf16(results, name):
    tensors = results[2, name]
    copy = {key.removeprefix("momentum.network."): value for key, value in of_kind(tensors, "memory").items()}
    before = of_kind(tensors, "before")
    weights = [key for key in before if key in copy and key.endswith("weight") and before[key].ndim > 1]
    assert len(weights) > 10
    assert all(copy[key].dtype == torch.float32 for key in weights)
    assert sum(not torch.equal(copy[key], before[key]) for key in weights) > 0.9 * len(weights)


@pytest.mark.parametrize(("name", "processes"), [("plain skipped", 1), ("zero2 skipped", 1), ("zero2 skipped", 2)])
def test_a_step_that_is_not_finite_reaches_neither_momentum_encoder_nor_queues(results, name, processes):
    memory = of_kind(results[processes, name], "memory")
    assert any(key.startswith("queues") for key in memory)
    assert all(tensor.isfinite().all() for tensor in memory.values())
