"""The rows without training: the pretrained trunk as it is, and the lens on it."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from ipad_train.data import load_data
from ipad_train.embed import embed_split
from ipad_train.frozen import fitted_lens, frozen_trunk
from ipad_train.launch import make_accelerator
from ipad_train.run_context import RunContext

NETWORK = {"channels": [8, 8, 16, 16], "stem_width": 8}


@pytest.fixture
def pretrained(small_config, tmp_path):
    """Configuration, data and accelerator of a run whose trunk starts from a file."""
    torch.manual_seed(0)
    file = tmp_path / "resnet10t.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=0, **NETWORK).state_dict(), file)
    trunk = f"{{stage: 3, weights: {file}, options: {{channels: [8, 8, 16, 16], stem_width: 8}}}}"
    config = small_config(f"model.options.trunk={trunk}", "stage0.steps=0")
    return config, load_data(config.data), make_accelerator(config)


def test_a_trunk_without_pretrained_weights_has_no_such_rows(small_config):
    config = small_config()
    assert frozen_trunk(config, load_data(config.data)) is None


def test_the_lens_is_fitted_on_training_images_once_and_knows_its_words(pretrained, tmp_path):
    config, data, accelerator = pretrained
    lens = frozen_trunk(config, data)
    assert not lens.is_fitted
    assert not any(parameter.requires_grad for parameter in lens.parameters())
    plain = embed_split(lens, data.splits["test"], config.data, accelerator)
    fitted = fitted_lens(lens, tmp_path / "lens", RunContext(config, data, accelerator))
    assert fitted.is_fitted
    assert list(fitted.schema) == list(data.schema.attributes)
    first = embed_split(fitted, data.splits["test"], config.data, accelerator)
    assert first.fused.shape[1] == max(data.schema.num_values)  # a probability for each value
    assert plain.fused.shape[1] == 16
    again = fitted_lens(frozen_trunk(config, data), tmp_path / "lens", RunContext(config, data, accelerator))
    second = embed_split(again, data.splits["test"], config.data, accelerator)
    torch.testing.assert_close(torch.from_numpy(second.fused), torch.from_numpy(first.fused))
