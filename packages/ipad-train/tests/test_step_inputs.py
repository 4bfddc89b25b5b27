"""What does not depend on how many processes share a batch: which entries it has, and which images are mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_data import BatchAugmentation
from ipad_train.data import load_data, make_sampler
from ipad_train.stage_batches import MicroBatchPlans
from ipad_train.step_inputs import AugmentedImages, StepSeed


def test_an_image_is_mirrored_or_not_wherever_it_is():
    rows, images = torch.arange(40), torch.rand(40, 3, 8, 8)
    inputs = AugmentedImages(0.5, BatchAugmentation(flip=0.0))
    whole = inputs({"rows": rows, "images": images}, StepSeed(3, 7))["images"]
    shares = [
        inputs({"rows": rows[part::4], "images": images[part::4]}, StepSeed(3, 7, part))["images"] for part in range(4)
    ]
    for part, share in enumerate(shares):
        assert torch.equal(share, whole[part::4])
    turned = torch.tensor([torch.equal(one, other.flip(-1)) for one, other in zip(whole, images, strict=True)])
    assert 10 < turned.sum() < 30


def test_draws_are_uniform_and_differ_from_step_to_step():
    one, other = (StepSeed(0, step).of_rows(torch.arange(20_000)) for step in (4, 5))
    for draws in (one, other):
        assert draws.min() >= 0
        assert draws.max() < 1
        assert torch.histc(draws, 10, 0, 1).div(2000).sub(1).abs().max() < 0.1
        assert torch.corrcoef(torch.stack([draws[1:], draws[:-1]]))[0, 1].abs() < 0.03
    assert torch.corrcoef(torch.stack([one, other]))[0, 1].abs() < 0.03


@pytest.mark.parametrize("sampler", ["dense", "triplet"])
def test_micro_batches_of_all_processes_are_the_batch(small_config, sampler):
    config = small_config(f"stage1.sampler={sampler}", "stage1.batch_size=8")
    plans = make_sampler(load_data(config.data), config.stage1, 0)

    def values(rank, world_size, accumulation):
        """``(steps, micro-batches)`` value ids of two steps, by part of a triplet."""
        found = iter(MicroBatchPlans(plans, 3, rank, world_size, accumulation))
        return [[next(found).value_ids for _ in range(accumulation)] for _ in range(2)]

    parts = 3 if sampler == "triplet" else 1
    whole = values(0, 1, 1)
    ranks = [values(rank, 2, 2) for rank in range(2)]
    for step in range(2):
        shares = [np.split(ranks[rank][step][number], parts) for number in range(2) for rank in range(2)]
        together = np.concatenate([share[part] for part in range(parts) for share in shares])
        assert np.array_equal(together, whole[step][0])
