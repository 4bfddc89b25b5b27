from __future__ import annotations

import pytest
import torch
from torch import nn

from ipad_core.backbones import build_trunk
from ipad_train.folded_trunk import folded


def with_statistics(name, **options):
    """A trunk whose batch norms are not the identity."""
    torch.manual_seed(0)
    trunk = build_trunk({"name": name, "options": options, "freeze": "all"}, 64)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return trunk.eval()


def norms(trunk):
    return sum(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {"channels": [8, 8, 16, 16], "stem_width": 8}),
        ("tf_efficientnet_lite0", {}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_the_maps_are_those_of_the_trunk_and_the_trunk_stays(name, options):
    trunk = with_statistics(name, **options)
    before = {key: tensor.clone() for key, tensor in trunk.state_dict().items()}
    quick = folded(trunk)
    assert norms(trunk) > 0
    assert norms(quick) == 0
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for one, other in zip(quick.stage_maps(images), trunk.stage_maps(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()), rtol=1e-4)
    torch.testing.assert_close(trunk.state_dict(), before, rtol=0, atol=0)


def test_a_convolution_that_something_else_reads_is_left_alone(monkeypatch):
    trunk = with_statistics("resnet10t", channels=[8, 8, 16, 16], stem_width=8)
    last = trunk.features.layer3[0]
    original = type(last).forward
    monkeypatch.setattr(type(last), "forward", lambda self, x: original(self, x) + self.conv2.weight.mean())
    assert folded(trunk) is trunk


def test_what_has_no_batch_norm_comes_back_as_it_is():
    trunk = build_trunk({"name": "vit_tiny_patch16_224", "options": {"depth": 1, "embed_dim": 16, "num_heads": 2}}, 64)
    assert folded(trunk) is trunk
