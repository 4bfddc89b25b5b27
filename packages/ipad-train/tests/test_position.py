"""Where a run stands, and from where it may go on."""

from __future__ import annotations

import json
import shutil

import pytest

from ipad_train.checkpoint import CheckpointError, find_checkpoint, read_state
from ipad_train.config_files import load_config, load_run_config
from ipad_train.config_identity import config_hash, different_keys
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


def test_a_checkpoint_of_another_configuration_is_refused_by_name(finished, small_config, tmp_path):
    run, _ = finished
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"another configuration: stage1\.steps \(3 there, 5 here\)"):
        Training(small_config("stage1.steps=5"), "auto", quiet)


def test_a_finished_run_goes_on_where_its_last_stage_becomes_longer(finished, small_config, tmp_path):
    run, _ = finished
    shutil.copytree(run, tmp_path / "run")
    said = []
    Training(small_config("stage2.steps=6"), "auto", said.append).run()
    assert any(
        line.startswith("stage2 is extended from 4 to 6 steps; its learning rate follows the longer") for line in said
    )
    assert [row["step"] for row in read_metrics(tmp_path / "run") if "loss" in row] == list(range(1, 12))
    with pytest.raises(
        CheckpointError, match=r"stage2\.steps \(6 there, 5 here\).*Only the last stage may become longer"
    ):
        Training(small_config("stage2.steps=5"), "auto", quiet)


def test_the_hash_of_a_configuration_is_in_the_checkpoint_and_in_the_delivered_model(finished):
    run, _ = finished
    config = load_run_config(run)
    assert read_state(find_checkpoint(run))["config_hash"] == config_hash(config)
    about = json.loads((run / "best" / "config.json").read_text())["about"]
    assert f"configuration {config_hash(config)[:16]}" in about["dataset"]


def test_the_hash_changes_with_what_the_steps_depend_on_and_with_nothing_else():
    config = load_config()
    for override in ("loop.log_every=3", "output_dir=elsewhere", "data.num_workers=7", "rerank.enabled=false"):
        assert config_hash(load_config(None, [override])) == config_hash(config)
    for override in ("seed=3", "stage1.learning_rate=0.1", "data.flip=0.1"):
        assert config_hash(load_config(None, [override])) != config_hash(config)


def test_differences_are_named_by_their_dotted_keys():
    one, other = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    assert different_keys(one, other) == {"a.c": ([1], [2]), "d": (2, None), "e": (None, 3)}
