from __future__ import annotations

import dataclasses
import itertools

import pytest

from ipad_train.clock import images_of_a_step
from ipad_train.config import StageConfig
from ipad_train.step_speed import StepTimer, images_per_second, measure_steps


def test_steps_are_timed_without_the_first_ones_and_without_evaluations():
    ends = itertools.accumulate([9.0, 9.0, 9.0, 1.0, 3.0, 500.0, 2.0])  # of seven steps
    seen = []
    timer = StepTimer(lambda stage, step: seen.append((stage, step)), now=lambda: next(ends))
    for step in range(7):
        timer.step_done("stage1", step)
    assert timer.seconds() == {"stage1": 2.0}
    assert seen[-1] == ("stage1", 6)


def test_too_few_steps_are_not_timed():
    timer = StepTimer()
    for step in range(3):
        timer.step_done("stage1", step)
    assert timer.seconds() == {}


def test_images_a_second_over_both_stages_by_hand(small_config):
    config = small_config("stage1.steps=10", "stage1.batch_size=6", "stage2.steps=5", "stage2.batch_size=4")
    assert images_per_second(config, {"stage1": 0.5, "stage2": 1.0}) == pytest.approx((60 + 20) / (5 + 5))
    assert images_per_second(config, {"stage1": 0.5}) is None
    triplets = dataclasses.replace(config, data=dataclasses.replace(config.data, anchor_views=0))
    assert images_of_a_step(triplets, StageConfig(steps=1, batch_size=4, sampler="triplet")) == 12


def test_a_few_steps_of_both_stages_are_measured_and_leave_nothing_behind(small_config, tmp_path):
    config = small_config("stage1={epochs: 2, batch_size: 16}", "stage0.steps=0")
    resolved, seconds = measure_steps(config, steps=5)
    assert set(seconds) == {"stage1", "stage2"}
    assert all(0 < value < 60 for value in seconds.values())
    assert (resolved.stage1.steps, resolved.stage2.steps) == (6, 4)  # 2 * 48 / 16
    assert resolved.output_dir == config.output_dir
    assert not (tmp_path / "run").exists()
