from __future__ import annotations

import math

import torch

from ipad_core.layers import SpatialAttention


def test_matches_loop_of_equation_1():
    layer = SpatialAttention(5, 4, sharpness=1.5).double()
    tokens, attribute = torch.randn(2, 6, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    expected = torch.zeros(2, 6, dtype=torch.float64)
    for b in range(2):
        query = torch.tanh(layer.attribute_projection.weight @ attribute[b] + layer.attribute_projection.bias)
        for n in range(6):
            key = torch.tanh(layer.map_projection.weight @ tokens[b, n] + layer.map_projection.bias)
            for channel in range(4):
                expected[b, n] += 1.5 * query[channel] * key[channel] / math.sqrt(4)
    torch.testing.assert_close(layer(layer.keys(tokens), attribute), expected)


def test_hand_worked():
    layer = SpatialAttention(1, 4)
    for projection in (layer.map_projection, layer.attribute_projection):
        torch.nn.init.constant_(projection.weight, 1.0)
        torch.nn.init.zeros_(projection.bias)
    activation = layer(layer.keys(torch.tensor([[[0.5], [-0.5]]])), torch.tensor([[1.0]]))
    expected = 4 * math.tanh(0.5) * math.tanh(1.0) / 2
    torch.testing.assert_close(activation, torch.tensor([[expected, -expected]]))


def test_bounded_by_sharpness_times_root_of_width():
    layer = SpatialAttention(3, 16, sharpness=2.0)
    activation = layer(layer.keys(1e4 * torch.randn(2, 9, 3)), 1e4 * torch.randn(2, 3))
    assert (activation.abs() <= 2.0 * 4 + 1e-4).all()


def test_gradcheck():
    layer = SpatialAttention(3, 2).double()
    tokens = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    attribute = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, a: layer(layer.keys(t), a), (tokens, attribute))
