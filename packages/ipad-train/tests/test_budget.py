from __future__ import annotations

import dataclasses

import pytest

from ipad_train.budget import Budget
from ipad_train.config import StageConfig


def lengths(config):
    return config.stage1.steps, config.stage2.steps


@pytest.fixture
def both(small_config):
    return small_config("stage1.steps=30", "stage2.steps=10")


@pytest.fixture
def single(both):
    return dataclasses.replace(both, stage2=StageConfig())


def test_stages_leave_every_run_as_it_is(both, single):
    assert lengths(Budget.parse("stages").apply(both, 40)) == (30, 10)
    assert lengths(Budget().apply(single, 40)) == (30, 0)


def test_equal_steps_give_one_branch_those_of_both_stages(both, single):
    assert lengths(Budget.parse("steps").apply(both, 40)) == (30, 10)
    assert lengths(Budget.parse("steps").apply(single, 40)) == (40, 0)


def test_equal_steps_a_branch_give_each_stage_those_of_both(both, single):
    budget = Budget.parse("steps-per-branch")
    assert lengths(budget.apply(both, 40)) == (40, 40)
    assert lengths(budget.apply(single, 40)) == (40, 0)
    assert str(budget) == "steps per branch"


def test_equal_minutes_by_hand(both, single):
    budget = Budget.parse("2min")
    # 120 s at 2 s a step; then 30 * 2 + 10 * 6 = 120 s is twice what one minute allows
    assert lengths(budget.apply(single, 40, {"stage1": 2.0})) == (60, 0)
    assert lengths(Budget.parse("1min").apply(both, 40, {"stage1": 2.0, "stage2": 6.0})) == (15, 5)
    assert lengths(Budget("minutes", 1e-6).apply(both, 40, {"stage1": 2.0, "stage2": 6.0})) == (1, 1)
    assert str(budget) == "2 minutes"


@pytest.mark.parametrize("text", ["", "steps2", "steps per branch", "minutes", "10", "-1min", "0min"])
def test_what_is_no_budget(text):
    with pytest.raises(ValueError, match="budget must be"):
        Budget.parse(text)
