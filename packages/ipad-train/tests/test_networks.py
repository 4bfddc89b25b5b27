"""What a stage starts from."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file

from ipad_core import create_model
from ipad_train.data import load_data
from ipad_train.networks import make_model, make_objective


@pytest.fixture
def weights(tmp_path):
    """A file of weights that fits the small trunk."""
    options = {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}
    network = create_model("triplet", num_attributes=1, trunk={"name": "resnet10t", "stage": 3, "options": options})
    save_file(
        {key: tensor.clone() for key, tensor in network.trunk.features.state_dict().items()},
        tmp_path / "own.safetensors",
    )
    return tmp_path / "own.safetensors"


def test_stage_zero_takes_the_trunk_of_the_network_and_stage_one_says_so(small_config, weights, tmp_path):
    config = small_config(f"model.options.trunk.weights={weights}", "model.options.trunk.freeze=1")
    data = load_data(config.data)
    classifier = make_model(config, "stage0", data, tmp_path)
    assert classifier.options["trunk"]["freeze"] == 1
    assert classifier.weights["trunk"]["source"] == "file own.safetensors"
    classifier.save_pretrained(tmp_path / "stages" / "stage0")
    record = make_model(config, "stage1", data, tmp_path).weights["trunk"]
    assert (record["source"], record["via"]) == ("file own.safetensors", "attribute_classifier")


@pytest.mark.parametrize("rate", ["0.0", "1e-4"])
def test_frozen_stages_stay_frozen_where_stage_two_trains_both_branches(small_config, weights, tmp_path, rate):
    config = small_config("model.options.trunk.freeze=1", f"stage2.spatial_learning_rate={rate}")
    data = load_data(config.data)
    model = make_model(config, "stage2", data, tmp_path)
    make_objective(config, "stage2", config.stage2, model, data)
    assert not model.trunk.features.conv1[0].weight.requires_grad
    assert model.trunk.features.layer1[0].conv1.weight.requires_grad == (rate != "0.0")
    assert model.semantic.tokens.trunk.features.layer1[0].conv1.weight.requires_grad
