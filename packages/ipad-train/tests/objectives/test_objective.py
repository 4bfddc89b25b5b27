"""The contract, and which objective a stage has."""

from __future__ import annotations

import pytest
import torch

from ipad_train.distributed import WholeBatch, restacked
from ipad_train.objectives import OBJECTIVES, AttributeDiverging, MetricLearning, TwoBranches, objective_of


def test_every_stage_has_one_of_its_own(small_config):
    config = small_config()
    assert objective_of(config, "stage1") is MetricLearning
    assert objective_of(config, "stage2") is AttributeDiverging
    assert objective_of(small_config("stage2.objective=two_branches"), "stage2") is TwoBranches


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stage2.objective=triplet", "stage2.objective must be one of two_branches, ipad, got 'triplet'"),
        ("stage1.objective=quadruplet", "stage1.objective must be one of triplet, got 'quadruplet'"),
    ],
)
def test_one_that_does_not_fit_the_stage_is_refused(small_config, setting, message):
    stage = setting[:6]
    with pytest.raises(ValueError, match=message):
        objective_of(small_config(setting), stage)


def test_every_objective_says_what_it_trains():
    assert {cls.network for cls in OBJECTIVES.values()} == {"classifier", "first branch", "both branches"}


def test_entries_of_unequal_processes_are_stacked_in_parts():
    """Process 0 has one triplet, process 1 two, process 2 none (all of its images were unreadable)."""
    entries = ["a0", "p0", "n0", "a1", "a2", "p1", "p2", "n1", "n2"]
    order = [entries[position] for position in restacked([3, 6, 0], 3)]
    assert order == ["a0", "a1", "a2", "p0", "p1", "p2", "n0", "n1", "n2"]


def test_one_process_gets_its_own_tensors_with_their_gradient():
    whole = WholeBatch(3, 3, torch.device("cpu"))
    features = torch.randn(3, 2, requires_grad=True)
    (ids,) = whole.gather(torch.arange(3))
    assert ids.tolist() == [0, 1, 2]
    (whole.gather_with_gradient(features) ** 2).sum().backward()
    torch.testing.assert_close(features.grad, 2 * features.detach())
