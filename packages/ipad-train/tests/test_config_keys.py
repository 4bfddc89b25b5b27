"""Help for every key."""

from __future__ import annotations

import dataclasses

import pytest

from ipad_train.config import RunConfig
from ipad_train.config_keys import all_keys, describe_keys


def leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_key_of_a_configuration_has_help_of_its_own():
    keys = {key.name: key for key in all_keys()}
    for name in leaves(RunConfig().to_dict()):
        stage, dot, rest = name.partition(".")
        known = f"stageN.{rest}" if stage in ("stage0", "stage1", "stage2") else f"{stage}{dot}{rest}"
        assert len(keys[known].help) > 8, known
    assert all(field.metadata.get("help") for field in dataclasses.fields(RunConfig))


def test_keys_are_described_with_type_and_default():
    text = describe_keys("stage1.steps")
    assert text == "stageN.steps=0  (int)\n    optimizer steps; 0 leaves the stage out"
    loop = describe_keys("loop")
    assert 'loop.log_with=["tensorboard"]  (list[str])' in loop
    assert "loop.mixed_precision=null  (str | None)" in loop
    assert "losses." not in loop
    assert describe_keys().count("stageN.batch_size") == 1


def test_a_key_that_is_not_there_names_the_nearest():
    with pytest.raises(ValueError, match=r"no configuration key begins with 'stage1.stps'; nearest: stageN.steps"):
        describe_keys("stage1.stps")
