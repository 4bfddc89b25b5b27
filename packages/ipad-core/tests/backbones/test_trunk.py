from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from ipad_core.backbones import Trunk

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}


@pytest.mark.parametrize(("stage", "channels", "stride"), [(1, 8, 4), (2, 8, 8), (3, 16, 16)])
def test_ends_after_its_stage(stage, channels, stride):
    trunk = Trunk("resnet10t", stage, **NARROW)
    assert trunk(torch.rand(2, 3, 64, 64)).shape == (2, channels, 64 // stride, 64 // stride)
    assert (trunk.num_features, trunk.stride) == (channels, stride)


def test_what_lies_behind_is_not_built():
    names = [name for name, _ in Trunk("resnet10t", 3, **NARROW).named_parameters()]
    assert not any("layer4" in name or "fc" in name for name in names)


def test_output_stride_widens_the_map():
    assert Trunk("resnet10t", 3, output_stride=8, **NARROW)(torch.rand(1, 3, 96, 96)).shape == (1, 16, 12, 12)


def test_statistics_are_those_of_the_weights_and_are_not_saved():
    trunk = Trunk("resnet10t", **NARROW)
    expected = timm.get_pretrained_cfg("resnet10t")
    assert trunk.mean.flatten().tolist() == pytest.approx(expected.mean)
    assert trunk.std.flatten().tolist() == pytest.approx(expected.std)
    assert not {"mean", "std"} & set(trunk.state_dict())


def test_pretrained_from_a_local_file(tmp_path):
    torch.manual_seed(1)
    source = timm.create_model("resnet10t", **NARROW)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    overlay = {"file": str(tmp_path / "weights.safetensors")}
    trunk = Trunk("resnet10t", 3, pretrained=True, pretrained_cfg_overlay=overlay, **NARROW)
    assert torch.equal(trunk.features.conv1[0].weight, source.conv1[0].weight)
    assert torch.equal(trunk.features.layer3[0].conv1.weight, source.layer3[0].conv1.weight)


@pytest.mark.parametrize("stage", [7, 99])
def test_unknown_stage(stage):
    with pytest.raises(ValueError, match=f"backbone 'resnet10t' has no stage {stage}"):
        Trunk("resnet10t", stage)


def test_unknown_network_lists_the_nearest():
    with pytest.raises(ValueError, match=r"timm knows no network 'resnet5000'; did you mean one of: .*resnet50"):
        Trunk("resnet5000")
