from __future__ import annotations

import dataclasses

import pytest

from ipad_train.clock import RunClock, in_words
from ipad_train.config import LoopConfig, RerankConfig, RunConfig, StageConfig, ValuesConfig

CONFIG = RunConfig(
    stage0=StageConfig(steps=100, batch_size=10),
    stage1=StageConfig(steps=100, batch_size=20),
    loop=LoopConfig(eval_every=50),
    rerank=RerankConfig(enabled=False),
)


def test_seconds_left_by_hand():
    clock = RunClock(CONFIG, 0, print)
    # stage 0: 100 images a second; stage 1 costs 1.3 times as much an image, and has 2000 of them
    assert clock.seconds_left("stage0", 0, 0.1) == pytest.approx(10 + 20 * 1.3)
    assert clock.seconds_left("stage0", 50, 0.1) == pytest.approx(5 + 20 * 1.3)
    assert clock.seconds_left("stage1", 90, 0.1) == pytest.approx(1.0)


def test_evaluations_count_by_their_images():
    assert RunClock(CONFIG, 1000, print).seconds_left("stage1", 0, 0.2) == pytest.approx(20 + 3 * 1000 * 0.4 * 0.01)


def test_a_triplet_is_three_images():
    triplets = dataclasses.replace(CONFIG.stage1, sampler="triplet")
    clock = RunClock(dataclasses.replace(CONFIG, stage1=triplets), 600, print)
    # a step of stage 0, ten images, takes 0.1 s; stage 1 has 100 steps of 60 images, and three evaluations
    expected = 10 + 3 * 600 * 0.4 * 0.01 + 1.3 * 0.01 * (100 * 60 + 3 * 600 * 0.4)
    assert clock.seconds_left("stage0", 0, 0.1) == pytest.approx(expected)


def test_the_end_of_the_run_embeds_the_training_images_where_it_needs_them():
    assert RunClock(CONFIG, 0, print, 5000).seconds_left("stage1", 100, 0.2) == 0
    config = dataclasses.replace(CONFIG, values=ValuesConfig(enabled=True))
    assert RunClock(config, 0, print, 5000).seconds_left("stage1", 100, 0.2) == pytest.approx(5000 * 0.4 * 0.01)


def test_the_first_timed_steps_of_each_stage_are_announced():
    seconds, said = iter(range(1000)), []
    clock = RunClock(CONFIG, 0, said.append, now=lambda: next(seconds) * 10.0)
    for step in range(1, 21):
        clock.step_done("stage0", step)
    for step in range(1, 21):
        clock.step_done("stage1", step)
    assert len(said) == 2
    assert said[0] == "stage0: 10.00 s a step; about 59 minutes for the rest of the run; stage1 estimated from stage0"
    assert said[1] == "stage1: 10.00 s a step; about 16 minutes for the rest of the run"


def test_the_time_that_is_left_follows_the_last_steps_and_not_what_lies_between_them():
    now = [0.0]
    clock = RunClock(CONFIG, 0, lambda line: None, now=lambda: now[0])
    assert clock.left("stage1", 0) is None
    for step in range(1, 41):
        now[0] += 2.0 if step != 30 else 500.0  # an evaluation lies before step 30
        clock.step_done("stage1", step)
        if step <= 6:  # two warm up, five are timed
            assert clock.left("stage1", step) is None
    assert clock.left("stage1", 40) == pytest.approx(60 * 2.0)
    assert clock.left("stage0", 40) is None


def test_durations_in_words():
    assert [in_words(seconds) for seconds in (9.6, 100, 7300)] == ["10 seconds", "2 minutes", "2.0 hours"]
