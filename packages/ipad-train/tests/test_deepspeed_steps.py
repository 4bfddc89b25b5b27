"""DeepSpeed in fp16, accumulating, clipping, skipping, resuming and offloading, against plain steps of one process.

``test_equal_steps.py`` has ten steps of every stage under ZeRO-1 and ZeRO-2, in float32 and bf16.
"""

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
        (2, "bf16", "env:ACCELERATE_MIXED_PRECISION=bf16"),
        (2, "accumulated", "env:ACCELERATE_GRADIENT_ACCUMULATION_STEPS=2"),
        (2, "skipped", "spoil"),
        (2, "clipped", "stage2.gradient_clip=1e-12"),
        (2, "resumed", "loop.mixed_precision=bf16", "resume"),
        (2, "offloaded", "env:ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE=cpu"),
        (2, "bf16 as on a GPU", "loop.mixed_precision=bf16", "as on a GPU"),
    )
}
LOW = {"initial_scale_power": 8, "loss_scale_window": 1}
HIGH = {"initial_scale_power": 60, "hysteresis": 1}
# Of fp16, the DeepSpeed configuration beside ZeRO's stage, and what the run says.
FP16 = {
    "zero1 fp16": ({"fp16": LOW}, []),
    "zero2 fp16": ({"fp16": LOW}, []),
    "zero2 fixed fp16": ({"fp16": {"loss_scale": 128}}, []),
    "zero2 accumulated fp16": ({"fp16": LOW, "gradient_accumulation_steps": 2}, []),
    "zero2 offloaded fp16": ({"fp16": LOW, "zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, []),
    "zero2 high fp16": ({"fp16": HIGH}, []),
    "zero2 resumed fp16": ({"fp16": LOW}, ["resume"]),
    "zero2 skipped fp16": ({"fp16": LOW}, ["spoil"]),
    "zero2 clipped fp16": ({"fp16": LOW}, ["stage2.gradient_clip=1e-12"]),
}
# What is a matter of configuration runs with one process only, what is one of the engine with one and with two.
_CONFIGURED = ("accumulated", "clipped", "fixed", "high", "offloaded")
PAIRS = {name: case for name, case in ZERO.items() if name.split()[1] not in _CONFIGURED}
PAIRS_FP16 = [name for name in FP16 if name.split()[1] not in _CONFIGURED]
ALONE_FP16 = ["zero2 fp16", *(name for name in FP16 if name not in PAIRS_FP16)]
OTHERS = ("clipped", "resumed", "high")  # which have tests of their own
LIKE = {"bf16": "plain bf16", "accumulated": "plain accumulated", "skipped": "plain skipped"}


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_settings):
    """By number of processes and case, the tensors of the first process."""
    folder = tmp_path_factory.mktemp("deepspeed")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump({**small_settings, "output_dir": str(folder / "run")}), encoding="utf-8")
    parts = (
        (0, PLAIN),
        (1, ZERO | {name: fp16_case(folder, name) for name in ALONE_FP16}),
        (2, PAIRS | {name: fp16_case(folder, name) for name in PAIRS_FP16}),
    )
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


def fp16_case(folder: Path, name: str) -> list[str]:
    """What a run with DeepSpeed's configuration of a case says; the configuration is written into a file."""
    settings, overrides = FP16[name]
    zero = {"stage": int(name.removeprefix("zero")[0]), **settings.get("zero_optimization", {})}
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**settings, "zero_optimization": zero}), encoding="utf-8")
    engine = [*ENGINE, f"env:ACCELERATE_DEEPSPEED_CONFIG_FILE={file}"]
    return [*BOTH, *engine, "loop.mixed_precision=fp16", *overrides]


def of_kind(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{kind}/"): value for key, value in tensors.items() if key.startswith(f"{kind}/")}


def moved(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    before, after = of_kind(tensors, "before"), of_kind(tensors, "after")
    weights = [key for key in sorted(before) if "running" not in key and "num_batches" not in key]
    return torch.cat([(after[key] - before[key]).flatten() for key in weights])


@pytest.mark.parametrize(
    ("name", "processes"),
    [
        (name, count)
        for count, cases in ((1, [*ZERO, *ALONE_FP16]), (2, [*PAIRS, *PAIRS_FP16]))
        for name in cases
        if name.split()[1] not in OTHERS
    ],
)
def test_deepspeed_does_the_steps_of_one_plain_process(results, name, processes):
    """In fp16 also where the scale of the losses changes: after every step but the first."""
    expected, actual = results[1, LIKE.get(name.split()[1], "plain")], results[processes, name]
    half = "16" in name
    rtol, atol = (2e-2, 1e-2) if half else (2e-3, 2e-4)
    for key, losses in of_kind(expected, "losses").items():
        if key.startswith(("active", "gradient_norm", "effective_rank")) and half:
            continue
        torch.testing.assert_close(
            actual[f"losses/{key}"],
            losses,
            rtol=0.1 if key.startswith("effective_rank") else rtol,
            atol=atol,
            equal_nan=True,
            msg=key,
        )
    if half:
        assert not torch.equal(actual["losses/loss"], results[1, "plain"]["losses/loss"])
    one, other = moved(expected), moved(actual)
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    assert cosine > (0.9 if half else 0.99)
    torch.testing.assert_close(other.norm(), one.norm(), rtol=0.1 if half else 0.02, atol=0)


def test_a_forward_pass_is_in_bf16_also_where_the_engine_switches_autocast_off_around_it(results):
    """As it does on a GPU: DeepSpeed looks at the autocast of GPUs alone."""
    straight, gpu = results[2, "zero2 bf16"], results[2, "zero2 bf16 as on a GPU"]
    assert not torch.equal(results[1, "plain bf16"]["losses/loss"], results[1, "plain"]["losses/loss"])
    for key, value in straight.items():
        torch.testing.assert_close(gpu[key], value, rtol=0, atol=0, equal_nan=True, msg=key)


def test_the_scale_of_fp16_grows_falls_and_stays_as_deepspeed_is_told(results):
    for processes in (1, 2):
        found = results[processes, "zero2 fp16"]
        assert found["losses/loss_scale"].tolist() == [256.0, 512.0, 1024.0, 2048.0]
        gradients = found["losses/gradient_norm"] / results[1, "plain"]["losses/gradient_norm"]
        assert (gradients - 1).abs().max() < 0.2  # whatever the scale is
    high = results[1, "zero2 high fp16"]  # where all four steps overflow
    assert high["scaler/cur_scale"] == 2.0**56
    assert all(torch.equal(high[f"after/{key}"], value) for key, value in of_kind(high, "before").items())
    assert not any(key.startswith("losses/") for key in high)
    assert results[1, "zero2 fixed fp16"]["losses/loss_scale"].tolist() == [128.0] * 4
    skipped = of_kind(results[2, "zero2 skipped fp16"], "scaler")  # the third step used up one of two chances
    assert {name: int(value) for name, value in skipped.items()} == {
        "cur_scale": 512,
        "cur_hysteresis": 1,
        "cur_iter": 4,
        "last_overflow_iter": 2,
    }


@pytest.mark.parametrize("name", ["zero2 clipped", "zero2 clipped fp16"])
def test_deepspeed_clips_gradients_as_the_configuration_says(results, name):
    """At a norm of 1e-12 Adam's own epsilon swallows the gradients: what moves is weight decay."""
    assert moved(results[1, name]).norm() < 0.2 * moved(results[1, "plain"]).norm()


@pytest.mark.parametrize(
    ("whole", "halves", "processes"),
    [
        ("zero2 bf16", "zero2 resumed", 1),
        ("zero2 bf16", "zero2 resumed", 2),
        ("zero2 fp16", "zero2 resumed fp16", 2),
    ],
)
def test_deepspeed_resumes_to_the_bit(results, whole, halves, processes):
    straight, resumed = results[processes, whole], results[processes, halves]
    for kind in ("after", "memory", *(["scaler"] if "fp16" in whole else [])):
        expected = of_kind(straight, kind)
        assert expected
        assert all(torch.equal(resumed[f"{kind}/{key}"], value) for key, value in expected.items())


@pytest.mark.parametrize("name", ["zero2 bf16", "zero2 fp16"])
def test_the_momentum_encoder_moves_beside_a_network_in_half_precision(results, name):
    tensors = results[2, name]
    copy = {key.removeprefix("momentum.network."): value for key, value in of_kind(tensors, "memory").items()}
    before = of_kind(tensors, "before")
    weights = [key for key in before if key in copy and key.endswith("weight") and before[key].ndim > 1]
    assert len(weights) > 10
    assert all(copy[key].dtype == torch.float32 for key in weights)
    assert sum(not torch.equal(copy[key], before[key]) for key in weights) > 0.9 * len(weights)


@pytest.mark.parametrize(
    ("name", "processes"),
    [("plain skipped", 1), ("zero2 skipped", 1), ("zero2 skipped", 2), ("zero2 skipped fp16", 2)],
)
def test_a_step_that_is_not_finite_reaches_neither_momentum_encoder_nor_queues(results, name, processes):
    memory = of_kind(results[processes, name], "memory")
    assert any(key.startswith("queues") for key in memory)
    assert all(tensor.isfinite().all() for tensor in memory.values())
