"""One, two and four processes train alike: losses, gradients, batches, queues, centers, momentum copy and weights.

So do one and two processes under DeepSpeed ZeRO-1 and ZeRO-2, in float32 and bf16. All evaluate alike to the bit.
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

SCRIPT = Path(__file__).parent / "processes" / "steps.py"
NONE = ["stage0.steps=0", "stage1.steps=0", "stage2.steps=0", "loop.log_every=1", "loop.threads=1"]
TEN = ["steps=10", "batch_size=16", "learning_rate=1e-3"]

# Of few images a triplet batch draws some twice. One process has such an image once; on two processes it is there twice, and
# counts twice in the statistics of batch norm.
FROZEN = "loop.batch_norm=frozen"


CASES = {
    name: [*NONE, *(f"{stage}.{text}" for text in TEN), *overrides]
    for name, stage, *overrides in (
        ("classification", "stage0"),
        ("dense", "stage1"),
        ("triplets", "stage1", "stage1.sampler=triplet", "stage1.optimizer=adam", FROZEN),
        ("frozen spatial", "stage2", "clusters.start=0", "clusters.refresh_every=2", "clusters.queue_length=2"),
        (
            "both branches",
            "stage2",
            "stage2.sampler=triplet",
            "stage2.spatial_learning_rate=1e-3",
            FROZEN,
            "clusters.start=0",
            "clusters.refresh_every=2",
            "clusters.queue_length=2",
        ),
        ("accumulated", "stage1", "stage1.accumulation=2"),
        ("resumed", "stage1", "resume"),
        ("skipped", "stage1", "spoil"),
    )
}
PARTS = {"triplets": 3, "both branches": 3}
STAGES = ["classification", "dense", "both branches"]
IN_BF16 = {f"{name}, bf16": name for name in STAGES}
CASES |= {name: [*CASES[stage], "loop.mixed_precision=bf16"] for name, stage in IN_BF16.items()}
# By case under DeepSpeed, the plain one with the same steps.
ZERO = {f"{name}, ZeRO-{stage}": name for stage in (1, 2) for name in (*STAGES, *IN_BF16)}
ENGINE = ["env:ACCELERATE_USE_DEEPSPEED=true", "env:DS_ACCELERATOR=cpu"]
CASES |= {
    name: [*CASES[plain], *ENGINE, f"env:ACCELERATE_DEEPSPEED_ZERO_STAGE={name[-1]}"] for name, plain in ZERO.items()
}
# On four processes every stage; what two show of the rest is not shown again.
RUNS = {1: [*CASES], 2: [*CASES], 4: STAGES}
EVALUATED = ["evaluated", "evaluated at once", "evaluated from maps"]


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_settings):
    """By number of processes and case, the tensors of every process."""
    folder = tmp_path_factory.mktemp("equal")
    config = folder / "small.yaml"
    config.write_text(yaml.safe_dump({**small_settings, "output_dir": str(folder / "run")}), encoding="utf-8")
    plan = [
        (count if count > 1 or under_deepspeed else 0, [name for name in names if (name in ZERO) == under_deepspeed])
        for under_deepspeed in (False, True)
        for count, names in RUNS.items()
    ]
    plan = [(processes, [";".join([name, *CASES[name]]) for name in names]) for processes, names in plan if names]
    plan = [(processes, cases if "ZeRO" in cases[0] else [*cases, "beside"]) for processes, cases in plan]
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(config), str(folder), json.dumps(plan)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = {}
    for processes, names in RUNS.items():
        for name in [*names, "ranked", *EVALUATED, *(["queued"] if processes > 1 else [])]:
            files = [folder / f"{name}-{processes}-{rank}.safetensors" for rank in range(processes)]
            found[processes, name] = [load_file(file) for file in files]
        if processes > 1:
            files = [folder / f"refused-{processes}-{rank}.json" for rank in range(processes)]
            found[processes, "refused"] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return found


def of_kind(tensors: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{kind}/"): value for key, value in tensors.items() if key.startswith(f"{kind}/")}


@pytest.mark.parametrize(
    ("processes", "name"),
    [(count, name) for count in (2, 4) for name in RUNS[count] if name not in (*ZERO, *IN_BF16, "resumed")],
)
def test_several_processes_do_the_steps_of_one(results, name, processes):
    (one,), many = results[1, name], results[processes, name]
    # The sampler: the batches of all processes together are those of one, in its order.
    parts = PARTS.get(name, 1)
    for step, expected in of_kind(one, "batches").items():
        stacked = [rank[f"batches/{step}"].chunk(parts) for rank in many]
        together = torch.cat([rank[part] for part in range(parts) for rank in stacked])
        assert torch.equal(together, expected)
    # Losses and all that is logged, step by step.
    losses = of_kind(one, "losses")
    assert len(losses["loss"]) == 10
    skipped = losses.get("skipped_steps", torch.full((10,), torch.nan)).nan_to_num().tolist()
    assert skipped == [float(name == "skipped" and step == 2) for step in range(10)]
    for key, expected in losses.items():
        rtol = 0.1 if key.startswith("effective_rank") else 5e-3
        torch.testing.assert_close(many[0][f"losses/{key}"], expected, rtol=rtol, atol=5e-4, equal_nan=True, msg=key)
    # Gradients of the first step.
    gradients = of_kind(one, "gradients")
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for key, expected in gradients.items():
        torch.testing.assert_close(
            many[0][f"gradients/{key}"], expected, rtol=1e-3, atol=1e-5 * largest.item(), msg=key
        )
    # Weights at the end, by how far they moved. Where the gradient is rounding and nothing else (a softmax does not see the
    # bias of its keys), Adam makes a step of any sign of it: these numbers are left out.
    before, after = of_kind(one, "before"), of_kind(one, "after")
    moved = {key: gradient.abs() > 1e-3 * gradient.abs().max() for key, gradient in gradients.items()}
    moved = {key: kept for key, kept in moved.items() if gradients[key].abs().max() > 1e-4 * largest}
    assert len(moved) > len(gradients) / 2
    for key, kept in moved.items():
        distance = (after[key] - before[key])[kept].norm()
        assert distance > 0
        assert (many[0][f"after/{key}"] - after[key])[kept].norm() < 0.05 * distance, key
    # Running statistics, momentum copy, queues and centers: the same on every process to the bit, and those of one.
    statistics = [key for key in after if "running" in key]
    for rank in many:
        for key in statistics:
            assert torch.equal(rank[f"after/{key}"], many[0][f"after/{key}"])
            torch.testing.assert_close(rank[f"after/{key}"], after[key], rtol=2e-2, atol=2e-3, msg=key)
        for key, mine in of_kind(rank, "memory").items():
            assert torch.equal(mine, many[0][f"memory/{key}"]), key
    for key, expected in of_kind(one, "memory").items():
        if key.startswith(("queues", "centers", "started")):
            torch.testing.assert_close(many[0][f"memory/{key}"], expected, rtol=2e-2, atol=5e-3, msg=key)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("name", ZERO)
def test_deepspeed_does_the_steps_of_as_many_plain_processes(results, name, processes):
    """Ten steps from batches to weights; in bf16 these are other steps than in float32."""
    plain = ZERO[name]
    for expected, found in zip(results[processes, plain], results[processes, name], strict=True):
        assert set(found) == set(expected)
        assert len(found["losses/loss"]) == 10
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6, equal_nan=True, msg=f"{name}: {key}")
        if plain in IN_BF16:
            in_float32 = results[processes, IN_BF16[plain]][0]
            assert not torch.equal(found["losses/loss"], in_float32["losses/loss"])


@pytest.mark.parametrize("name", IN_BF16)
def test_two_processes_do_the_steps_of_one_in_bf16(results, name):
    """As nearly as bf16 allows: a process rounds the gradient of its share of the batch."""
    (one,), two = results[1, name], results[2, name][0]
    discrete = ("active", "accuracy", "effective_rank")  # move in leaps: shares of a few entries
    for key, expected in of_kind(one, "losses").items():
        near = {"rtol": 0.1, "atol": 0.2} if key.startswith(discrete) else {"rtol": 0.1, "atol": 5e-3}
        torch.testing.assert_close(two[f"losses/{key}"], expected, **near, equal_nan=True, msg=key)
    gradients = of_kind(one, "gradients")
    assert set(gradients) == set(of_kind(two, "gradients"))
    whole, other = (torch.cat([tensors[f"gradients/{key}"].flatten() for key in gradients]) for tensors in (one, two))
    assert (other - whole).norm() < 0.05 * whole.norm()
    whole, other = (
        torch.cat([(tensors[f"after/{key}"] - one[f"before/{key}"]).flatten() for key in gradients])
        for tensors in (one, two)
    )
    assert torch.nn.functional.cosine_similarity(whole, other, dim=0) > 0.95
    for key, expected in of_kind(one, "memory").items():
        if key.startswith(("queues", "centers", "started")):
            torch.testing.assert_close(two[f"memory/{key}"], expected, rtol=2e-2, atol=1e-2, msg=key)


@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_resume_to_the_bit(results, processes):
    for straight, resumed in zip(results[processes, "dense"], results[processes, "resumed"], strict=True):
        after = of_kind(straight, "after")
        assert after
        assert all(torch.equal(resumed[f"after/{key}"], expected) for key, expected in after.items())
        assert torch.equal(resumed["losses/loss"], straight["losses/loss"][5:])


def test_the_cluster_loss_has_started_where_both_branches_learn(results):
    (one,) = results[1, "both branches"]
    assert one["memory/started_at"] >= 0
    assert (one["losses/centers_spatial"].nan_to_num() > 0).any()


@pytest.mark.parametrize("processes", [2, 4])
def test_batches_of_unequal_length_are_gathered_in_order_and_queued_alike(results, processes):
    first, *others = results[processes, "queued"]
    lengths = [3 + rank for rank in range(processes)]
    assert first["ids"].tolist() == [number for length in lengths for number in range(length)]
    assert first["features"][:, 0].tolist() == [
        float(rank) for rank, length in enumerate(lengths) for _ in range(length)
    ]
    assert all(torch.equal(first[key], other[key]) for other in others for key in first)


@pytest.mark.parametrize("processes", [2, 4])
def test_where_the_main_process_is_refused_all_end_with_its_sentence(results, processes):
    first, *others = results[processes, "refused"]
    assert (first["done"], first["kind"]) == ("done", "FileExistsError")
    assert first["said"].startswith("Größe: the folder of process ")
    assert all(other == {"done": None, "kind": "ChildProcessError", "said": first["said"]} for other in others)


@pytest.mark.parametrize("processes", [2, 4])
def test_queries_that_are_shared_out_have_the_precision_that_one_process_finds(results, processes):
    expected = results[1, "ranked"][0]["precisions"]
    assert len(expected) == 7
    assert len(set(expected.tolist())) > 4
    for rank in results[processes, "ranked"]:
        assert torch.equal(rank["precisions"], expected)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", EVALUATED)
def test_an_evaluation_is_the_same_to_the_bit_on_any_number_of_processes(results, name, processes):
    (expected,) = results[1, name]
    assert len(expected["MAP"]) == 4  # of random rankings, and of each branch and their fusion
    assert len(set(expected["precisions/fused"].tolist())) > 4
    assert len(results[processes, name]) == processes
    for rank in results[processes, name]:
        assert set(rank) == set(expected)
        assert [key for key, value in expected.items() if not torch.equal(rank[key], value)] == []
