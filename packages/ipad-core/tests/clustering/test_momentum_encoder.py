from __future__ import annotations

import pytest
import torch
from torch import nn

from ipad_core.clustering import MomentumEncoder


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_moves_by_exactly_one_minus_mu():
    source = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(source.weight)
    momentum = MomentumEncoder(source, 0.75)
    nn.init.ones_(source.weight)
    momentum.update(source)
    assert momentum.network.weight.item() == 0.25
    momentum.update(source)
    assert momentum.network.weight.item() == 0.4375


@pytest.mark.parametrize("mu", [0.0, 0.9, 0.995])
def test_matches_loop_of_equation_10(mu):
    source = network()
    momentum = MomentumEncoder(source, mu)
    expected = [p.detach().clone() for p in source.parameters()]
    for _ in range(3):
        for parameter in source.parameters():
            nn.init.normal_(parameter)
        momentum.update(source)
        expected = [mu * mine + (1 - mu) * p.detach() for mine, p in zip(expected, source.parameters(), strict=True)]
    for mine, want in zip(momentum.network.parameters(), expected, strict=True):
        torch.testing.assert_close(mine, want)


def test_gets_no_gradient_and_leaves_the_network_its_own():
    source = network()
    momentum = MomentumEncoder(source)
    inputs = torch.randn(4, 3, requires_grad=True)
    assert not momentum(inputs).requires_grad
    (source(inputs).sum() + momentum(inputs).sum()).backward()
    assert all(p.grad is None and not p.requires_grad for p in momentum.parameters())
    assert all(p.grad is not None for p in source.parameters())


def test_starts_as_a_copy_that_shares_no_memory():
    source = network()
    momentum = MomentumEncoder(source)
    for mine, theirs in zip(momentum.network.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


def test_stays_in_evaluation_mode_and_copies_running_statistics():
    source = network()
    momentum = MomentumEncoder(source).train()
    assert not any(module.training for module in momentum.modules())
    source(torch.randn(8, 3))
    momentum.update(source)
    assert torch.equal(momentum.network[1].running_mean, source[1].running_mean)
    inputs = torch.randn(4, 3)
    assert torch.equal(momentum(inputs), momentum(inputs))


def test_follows_a_network_of_lower_precision():
    source = nn.Linear(2, 2)
    momentum = MomentumEncoder(source, 0.5)
    momentum.update(source.bfloat16())
    assert momentum.network.weight.dtype == torch.float32


@pytest.mark.parametrize("mu", [-0.1, 1.0])
def test_rejects_momentum(mu):
    with pytest.raises(ValueError, match=r"momentum must be within \[0, 1\)"):
        MomentumEncoder(nn.Linear(1, 1), mu)


def test_rejects_another_network():
    with pytest.raises(ValueError, match="zip"):
        MomentumEncoder(nn.Linear(1, 1)).update(nn.Linear(1, 1, bias=False))
