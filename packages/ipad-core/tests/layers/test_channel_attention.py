from __future__ import annotations

import torch

from ipad_core.layers import ChannelAttention


@torch.no_grad()
def test_matches_loop_of_equation_4():
    layer = ChannelAttention(4, 3, reduction=2).double()
    pooled, attribute = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    for b in range(2):
        latent = [
            max(0.0, float(layer.attribute.weight[k] @ attribute[b] + layer.attribute.bias[k])) for k in range(3)
        ]
        joined = torch.tensor([*pooled[b].tolist(), *latent], dtype=torch.float64)
        hidden = torch.stack(
            [(layer.squeeze.weight[k] @ joined + layer.squeeze.bias[k]).clamp(min=0) for k in range(2)]
        )
        for k in range(4):
            expected[b, k] = 1 / (1 + torch.exp(-(layer.excite.weight[k] @ hidden + layer.excite.bias[k])))
    torch.testing.assert_close(layer(pooled, attribute), expected)


def test_gates_lie_between_zero_and_one_and_start_at_half_without_weights():
    layer = ChannelAttention(8, 4)
    gates = layer(torch.randn(5, 8), torch.randn(5, 8))
    assert ((gates > 0) & (gates < 1)).all()
    torch.nn.init.zeros_(layer.excite.weight)
    torch.nn.init.zeros_(layer.excite.bias)
    assert (layer(torch.randn(5, 8), torch.randn(5, 8)) == 0.5).all()


def test_reduction_beyond_the_width_keeps_one_unit():
    assert ChannelAttention(4, 2, reduction=100).squeeze.out_features == 1


def test_gradcheck():
    layer = ChannelAttention(4, 3, 2).double()
    inputs = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(layer, inputs)
