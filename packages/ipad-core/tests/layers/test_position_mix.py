from __future__ import annotations

import torch

from ipad_core.layers import PositionMix
from ipad_core.layers.position_mix import position_channels


def test_channels_span_the_map():
    channels = position_channels(3, 5, like=torch.zeros(1))
    assert channels.shape == (1, PositionMix.num_channels, 3, 5)
    assert channels[0, 0, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert channels[0, 1, :, 0].tolist() == [-1.0, 0.0, 1.0]
    assert channels.abs().max() <= 1


def test_constant_map_becomes_position_dependent():
    mixed = PositionMix(4).eval()(torch.ones(2, 4, 3, 3))
    assert mixed.shape == (2, 4, 3, 3)
    assert mixed.flatten(2).std(dim=2).max() > 0


def test_keeps_the_dtype():
    assert PositionMix(4).eval().bfloat16()(torch.ones(1, 4, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
