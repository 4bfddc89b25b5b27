"""What a checkpoint brings back: runs that die go on to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipad_train.checkpoint import find_checkpoint, read_state
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


@pytest.mark.parametrize("step", [4, 7], ids=["mid stage 1", "mid stage 2"])
def test_a_killed_run_resumes_bit_for_bit(finished, small_config, interrupt, step):
    straight, _ = finished
    config = small_config("loop.save_every=1")
    undo = interrupt(step)
    with pytest.raises(interrupt.Error):
        Training(config, None, quiet).run()
    undo()
    Training(config, "auto", quiet).run()
    resumed = config.output_dir
    expected = load_file(straight / "stages" / "stage2" / "model.safetensors")
    actual = load_file(f"{resumed}/stages/stage2/model.safetensors")
    assert expected.keys() == actual.keys()
    different = [name for name in expected if not torch.equal(expected[name], actual[name])]
    assert not different
    losses = [(row["step"], row["loss"]) for row in read_metrics(straight) if "loss" in row]
    assert [(row["step"], row["loss"]) for row in read_metrics(Path(resumed)) if "loss" in row] == losses


def test_queues_centers_and_the_best_map_are_part_of_the_checkpoint(finished):
    run, _ = finished
    path = find_checkpoint(run)
    tensors = load_file(path / "objective.safetensors")
    assert any("queues.semantic.storage" in name for name in tensors)
    assert any("centers.semantic.centers" in name for name in tensors)
    assert any("momentum.network" in name for name in tensors)
    assert all(score["map"] > 0 for score in read_state(path)["scores"].values())


def test_a_run_killed_after_the_cluster_loss_started_resumes_with_it(small_config, interrupt):
    settings = ("stage2.steps=8", "clusters.refresh_every=3", "clusters.queue_length=1", "loop.save_every=1")
    straight = small_config(*settings, "stage0.steps=0", "stage1.steps=1", output="straight")
    Training(straight, None, quiet).run()
    expected = read_metrics(Path(straight.output_dir))
    (start,) = [row["step"] for row in expected if "cluster loss starts" in row.get("event", "")]
    assert start + 2 < 9
    config = dataclasses.replace(straight, output_dir=str(Path(straight.output_dir).with_name("killed")))
    undo = interrupt(start + 1)
    with pytest.raises(interrupt.Error):
        Training(config, None, quiet).run()
    undo()
    Training(config, "auto", quiet).run()
    assert read_metrics(Path(config.output_dir)) == expected
    one, other = (load_file(f"{run.output_dir}/stages/stage2/model.safetensors") for run in (straight, config))
    assert all(torch.equal(one[name], other[name]) for name in one)
