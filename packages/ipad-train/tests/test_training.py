"""Whole runs of a network of a few thousand weights on real images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipad_core import AttributeEmbedder
from ipad_data.prepare import prepare
from ipad_data.render import SCHEMA
from ipad_train.chance import stuck_attributes
from ipad_train.checkpoint import find_checkpoint
from ipad_train.commands import evaluate_run
from ipad_train.config_files import load_config
from ipad_train.data import load_data
from ipad_train.part_times import PARTS
from ipad_train.tracking import read_metrics, read_timings
from ipad_train.training import Training


def quiet(line):
    pass


def test_a_run_leaves_what_the_readme_says(finished):
    run, said = finished
    assert (run / "config.yaml").is_file()
    assert find_checkpoint(run) is not None
    for stage in ("stage0", "stage1", "stage2"):
        AttributeEmbedder.from_pretrained(run / "stages" / stage)
    best = AttributeEmbedder.from_pretrained(run / "best")
    assert not best.training
    results = json.loads((run / "validation.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["random", "stage 0 alone", "IP-SP", "IP-SE", "fused"]
    overall = {row["name"]: row["overall"] for row in results["rows"]}
    assert overall["fused"] >= max(overall["IP-SP"], overall["IP-SE"])
    assert overall[results["delivered"]] == max(overall[name] for name in ("stage 0 alone", "IP-SP", "fused"))
    assert all(0 <= row["overall"] <= 100 for row in results["rows"])
    assert 0 <= results["localization"]["overall"] <= 100
    assert results["made_with"]["machine"] == said[0]
    assert f"torch {torch.__version__}" in results["made_with"]["versions"]
    assert any("MiB preallocated" in line for line in said)
    assert any(line.startswith("beta = ") for line in said)
    assert list((run / "tensorboard").iterdir())


def test_metrics_hold_every_stage_its_losses_and_the_switch(finished):
    rows = read_metrics(finished[0])
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 10))
    stage2 = [row for row in rows if row["stage"] == "stage2"]
    assert {"triplet_semantic", "contrast", "learning_rate", "gradient_norm"} <= set(stage2[0])
    filled = [row["queues_filled/semantic"] for row in stage2 if "loss" in row]
    assert filled == sorted(filled)
    assert 0 < filled[-1] <= 1
    names = list(SCHEMA.values)
    stage1 = [row for row in rows if row["stage"] == "stage1" and "loss" in row]
    assert any(f"active/{name}" in stage1[-1] for name in names)
    assert all(-1 <= stage1[-1][f"mean_cosine/{name}"] <= 1 for name in names)
    assert all(1 <= stage1[-1][f"effective_rank/{name}"] <= 16 for name in names)
    assert any("cluster loss starts" in row.get("event", "") for row in stage2)
    assert any("centers_semantic" in row for row in stage2)
    (evaluation,) = [row for row in rows if row["stage"] == "stage1" and "validation/MAP" in row]
    attributes = [key.removeprefix("random/") for key in evaluation if key.startswith("random/")]
    assert len(attributes) == 6
    maps, random = ({name: evaluation[f"{kind}/{name}"] for name in attributes} for kind in ("validation", "random"))
    assert evaluation["validation/stuck"] == len(stuck_attributes(maps, random))


def test_the_first_lines_say_what_is_about_to_happen_and_the_last_ones_what_stayed_at_chance(finished):
    run, said = finished
    assert "1 process, NO, cpu, float32; each with " in said[0]
    assert said[1].startswith("data: rendered, 48 labelled training images")
    assert "from random weights" in said[2]
    stuck = json.loads((run / "validation.json").read_text())["stuck"]
    (line,) = [line for line in said if line.startswith("still at chance on validation")]
    assert stuck
    assert all(f"{name} " in line for name in stuck)
    assert any(line.startswith("what to try for these") for line in said)
    summary = said[said.index("summary:") :]
    assert [line.split(":")[0].strip() for line in summary] == [
        "summary",
        "stage0",
        "stage1",
        "stage2",
        "time",
        "at chance",
    ]
    assert all(name in summary[-1] for name in stuck)


def test_stage_one_starts_from_the_trunk_of_stage_zero_and_stage_two_keeps_a_frozen_spatial_branch(finished):
    run, _ = finished
    before = load_file(run / "stages" / "stage1" / "model.safetensors")
    after = load_file(run / "stages" / "stage2" / "model.safetensors")
    spatial = [name for name in before if name.startswith("spatial.")]
    assert spatial
    assert all(torch.equal(before[name], after[name]) for name in spatial)


def test_a_folder_with_a_run_is_not_overwritten(finished, small_config, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(FileExistsError, match="already holds a run"):
        Training(small_config(), None, quiet)


def test_a_configuration_that_trains_nothing_is_an_error(small_config):
    with pytest.raises(ValueError, match="trains nothing"):
        Training(small_config("stage0.steps=0", "stage1.steps=0", "stage2.steps=0"), None, quiet)


def test_a_second_stage_of_a_network_with_one_branch_is_an_error(small_config):
    options = "model.options={image_size: 32, embed_dim: 16}"
    config = small_config("model.name=csn_tiny", options, "stage0.steps=0", "stage1.steps=1")
    with pytest.raises(ValueError, match=r"set stage2\.steps=0"):
        Training(config, None, quiet).run()


def test_epochs_and_a_batch_larger_than_the_dataset_become_steps_that_fit_it(small_config):
    said = []
    config = small_config("stage0.batch_size=100", "stage1.epochs=0.5", "stage2.epochs=0")
    run = Training(config, None, said.append)
    run.run()
    assert any("stage0: batch_size reduced from 100 to 48: there are 48 labelled training images" in x for x in said)
    written = load_config(Path(config.output_dir) / "config.yaml")
    assert (written.stage0.batch_size, written.stage1.steps, written.stage1.epochs) == (48, 2, None)
    assert [name for name, _ in written.stages()] == ["stage0", "stage1"]
    steps = [row["step"] for row in read_metrics(Path(config.output_dir)) if "loss" in row]
    assert steps == [1, 2, 3, 4]
    Training(config, "auto", said.append).run()  # the same epochs come to the same steps


def test_a_second_start_in_a_folder_is_refused_while_the_first_one_lives(small_config):
    config = small_config()
    first = Training(config, None, quiet)
    with pytest.raises(FileExistsError, match=r"process \d+ trains in .*run; wait for it"):
        Training(small_config("seed=5"), "auto", quiet)
    assert load_config(Path(config.output_dir) / "config.yaml").seed == 0
    first.run()
    with pytest.raises(FileExistsError, match="already holds a run"):
        Training(config, None, quiet)
    Training(config, "auto", quiet).run()  # nobody holds it any more


def test_a_mistake_before_the_first_step_leaves_a_folder_that_a_run_may_start_in(small_config):
    with pytest.raises(ValueError, match=r"model\.options does not fit model\.name 'ipad_tiny'.*embed_dimm"):
        Training(small_config("model.options={embed_dimm: 3}"), None, quiet)
    run = Training(small_config("stage1.steps=0", "stage2.steps=0"), None, quiet)
    run.tracker.close()  # a run that died before it wrote anything
    run.lock.release()
    Training(small_config("stage1.steps=0", "stage2.steps=0"), None, quiet).run()


def test_a_folder_of_data_spelled_otherwise_is_the_same_data(small_config, tmp_path, monkeypatch):
    prepare(load_data(small_config().data).splits, tmp_path / "prepared", size=48)
    monkeypatch.chdir(tmp_path)
    settings = ("data.options={}", "stage1.steps=0", "stage2.steps=0")
    Training(small_config(*settings, "data.dir=prepared"), None, quiet).run()
    written = load_config(tmp_path / "run" / "config.yaml")
    assert written.data.dir == str(tmp_path / "prepared")
    monkeypatch.chdir("/")
    Training(small_config(*settings, f"data.dir={tmp_path}/x/../prepared/"), "auto", quiet).run()
    evaluate_run(tmp_path / "run", "test", [], quiet)


def test_every_part_of_training_is_timed(finished):
    rows = read_timings(finished[0])
    assert sum(row["steps"] for row in rows if row["stage"] == "stage2") == 4
    parts = {part for row in rows for part in row["seconds"]}
    assert parts == set(PARTS)
    assert all(sum(row["seconds"].values()) <= row["elapsed"] + 1e-3 for row in rows)
    assert all(row["images_per_second"] > 0 for row in rows if row["steps"])
