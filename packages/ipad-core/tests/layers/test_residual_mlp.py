from __future__ import annotations

import torch

from ipad_core.layers import ResidualMLP


def loop_residual_mlp(layer, x):
    """Eq. 5 on one vector."""
    v = layer.project.weight @ x + layer.project.bias
    first, _, second = layer.mlp
    hidden = (first.weight @ v + first.bias).clamp(min=0)
    total = v + second.weight @ hidden + second.bias
    mean, variance = total.mean(), ((total - total.mean()) ** 2).mean()
    return (total - mean) / (variance + layer.norm.eps).sqrt() * layer.norm.weight + layer.norm.bias


def test_matches_loop_of_equation_5():
    layer = ResidualMLP(6, 4).double()
    features = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(features), torch.stack([loop_residual_mlp(layer, x) for x in features]))


def test_hand_worked_skip_alone():
    layer = ResidualMLP(2, 2)
    torch.nn.init.eye_(layer.project.weight)
    torch.nn.init.zeros_(layer.project.bias)
    for linear in (layer.mlp[0], layer.mlp[2]):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    torch.testing.assert_close(layer(torch.tensor([[3.0, 7.0]])), torch.tensor([[-1.0, 1.0]]))


def test_constant_input_is_finite():
    assert ResidualMLP(4, 4)(torch.zeros(2, 4)).isfinite().all()


def test_gradcheck():
    layer = ResidualMLP(3, 4).double()
    assert torch.autograd.gradcheck(layer, torch.randn(2, 3, dtype=torch.float64, requires_grad=True))
