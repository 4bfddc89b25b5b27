"""A whole network that a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipad_core import AttributeEmbedder
from ipad_train.data import load_data
from ipad_train.networks import make_model
from ipad_train.start import find_starting_weights
from ipad_train.training import Training

FROM = ("stage0.steps=0", "stage1.steps=0", "stage2.steps=2")


def quiet(line):
    pass


def test_both_branches_start_from_a_run(finished, small_config, tmp_path):
    run, _ = finished
    source = AttributeEmbedder.from_pretrained(run / "stages" / "stage2")
    config, weights, _ = find_starting_weights(small_config(*FROM, f"model.init={run / 'stages' / 'stage2'}"), 6)
    assert "by way of" in weights["trunk"]
    said = []
    model = make_model(config, "stage2", load_data(config.data), tmp_path, said.append)
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert [line.split(" starts from ")[0] for line in said] == ["the first branch", "the second branch"]
    assert not any("new, as" in line or "not used" in line for line in said)


def test_what_does_not_fit_is_named(finished, small_config, tmp_path):
    run, _ = finished
    config = small_config("stage0.steps=0", "stage2.steps=0", f"model.init={run / 'stages' / 'stage2'}")
    said = []
    make_model(config, "stage1", load_data(config.data), tmp_path, said.append)
    assert len(said) == 2
    assert said[1].startswith("  not used from there: semantic.")
    said.clear()
    other = small_config(
        "stage0.steps=0", "stage2.steps=0", "model.options.embed_dim=24", f"model.init={run / 'stages' / 'stage2'}"
    )
    make_model(other, "stage1", load_data(config.data), tmp_path, said.append)
    assert any(line.startswith("  new, as they are of another shape there: ") and "(16, " in line for line in said)


def test_a_run_trains_on_from_another_ones_delivered_model(finished, small_config):
    run, _ = finished
    said = []
    Training(small_config(*FROM, f"model.init={run / 'stages' / 'stage2'}"), None, said.append).run()
    assert any(line.startswith("the second branch starts from") for line in said)
    kept = load_file(Path(small_config().output_dir) / "stages" / "stage2" / "model.safetensors")
    before = load_file(run / "stages" / "stage2" / "model.safetensors")
    frozen = [name for name in before if name.startswith("spatial.")]
    assert all(torch.equal(before[name], kept[name]) for name in frozen)


def test_a_start_that_is_not_there_or_of_another_kind_is_refused_before_a_step(finished, small_config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.init=/nowhere/at/all"):
        Training(small_config(*FROM, "model.init=/nowhere/at/all"), None, quiet)
    with pytest.raises(
        ValueError, match=r"holds a trained trunk, and stage0 would train another; set stage0\.steps=0"
    ):
        Training(small_config(f"model.init={finished[0]}"), None, quiet)
    with pytest.raises(ValueError, match=r"model\.init=.* holds a trunk, and model\.trunk_weights=.* names another"):
        small_config("model.init=a", "model.trunk_weights=b")
    with pytest.raises(FileNotFoundError, match=r"model\.trunk_weights=.*nothing is no saved model and no run"):
        Training(small_config(f"model.trunk_weights={tmp_path / 'nothing'}"), None, quiet)
