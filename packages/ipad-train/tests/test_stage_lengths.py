from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ipad_train.config import RunConfig, StageConfig
from ipad_train.stage_lengths import epochs_of, resolve_stages


class Data:
    """As many labelled images as asked for, of two entries each."""

    def __init__(self, images):
        self.train_entries = self
        self.rows = np.repeat(np.arange(images), 2)


def resolved(stage, images, world_size=1):
    config, said = resolve_stages(RunConfig(stage1=stage), Data(images), world_size)
    return config.stage1, said


@pytest.mark.parametrize(("images", "steps"), [(320, 20), (321, 21), (3200, 200), (30, 2)])
def test_epochs_by_hand(images, steps):
    stage, said = resolved(StageConfig(epochs=2.0, batch_size=32 if images > 32 else 30), images)
    assert (stage.steps, stage.epochs, said) == (steps, None, [])
    assert epochs_of(stage, images) >= 2.0


def test_bounds_clamp_a_length_in_epochs():
    stage = StageConfig(epochs=4.0, batch_size=10, min_steps=50, max_steps=80)
    assert [resolved(stage, images)[0].steps for images in (10, 150, 1000)] == [50, 60, 80]


def test_an_epoch_of_triplets_is_the_samplers():
    stage = StageConfig(epochs=0.5, batch_size=64, sampler="triplet", triplets_per_epoch=6400)
    assert resolved(stage, 40)[0].steps == 50


def test_a_batch_is_reduced_to_what_there_is_on_all_processes():
    stage, said = resolved(StageConfig(epochs=3.0, batch_size=64), 41, world_size=2)
    assert (stage.batch_size, stage.steps) == (40, 4)
    assert said == ["stage1: batch_size reduced from 64 to 40: there are 41 labelled training images"]
    with pytest.raises(ValueError, match="1 labelled training images are too few for 2 processes"):
        resolved(StageConfig(steps=3), 1, world_size=2)


def test_what_is_resolved_stays():
    first, _ = resolve_stages(RunConfig(stage1=StageConfig(epochs=3.0), stage2=StageConfig(steps=7)), Data(100))
    assert resolve_stages(first, Data(100)) == (first, [])
    assert dataclasses.replace(first.stage1, steps=0).is_trained is False


def test_a_batch_that_processes_cannot_share_is_refused_at_the_start():
    with pytest.raises(ValueError, match=r"stage1\.batch_size counts over all .* multiple of their number, 3; got 64"):
        resolved(StageConfig(steps=3, batch_size=64), 100, world_size=3)
