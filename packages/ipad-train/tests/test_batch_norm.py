"""Batch norm over all processes, with processes that are threads' worth of slices: a stand-in for the collective."""

from __future__ import annotations

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from ipad_train import batch_norm
from ipad_train.batch_norm import freeze_batch_norm, synchronize_batch_norm


@pytest.fixture
def synchronized(monkeypatch):
    """As on several processes, of which this one has the whole batch: sums over processes are its own."""
    monkeypatch.setattr(batch_norm, "is_distributed", lambda: True)
    for name, answer in (("all_reduce", None), ("get_world_size", 1), ("get_rank", 0)):
        monkeypatch.setattr(batch_norm.dist, name, lambda *_, answer=answer: answer)
    return synchronize_batch_norm


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(3), lambda: BatchNormAct2d(3), lambda: nn.BatchNorm1d(3)])
def test_it_is_torchs_batch_norm_over_the_whole_batch(synchronized, make):
    """Outputs, gradients of inputs and parameters, running statistics; in training and in evaluation."""
    torch.manual_seed(0)
    expected, actual = make(), make()
    for norm in (expected, actual):
        nn.init.uniform_(norm.weight, 0.5, 2.0, generator=torch.Generator().manual_seed(1))
        nn.init.uniform_(norm.bias, -1.0, 1.0, generator=torch.Generator().manual_seed(2))
    holder = nn.Sequential(actual)
    synchronized(holder)
    assert holder[0] is actual
    shape = (6, 3, 4, 5) if isinstance(expected, nn.BatchNorm2d) else (6, 3)
    inputs = torch.randn(shape) * 3 + 50  # a small variance beside a large mean
    one, other = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    weights = torch.randn(shape)
    for norm, leaf in ((expected, one), (actual, other)):
        (norm(leaf) * weights).sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.weight.grad, expected.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(actual.bias.grad, expected.bias.grad)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(actual.state_dict()[key], value)
    torch.testing.assert_close(actual.eval()(inputs), expected.eval()(inputs))


@pytest.mark.parametrize("share", [2, 0])
def test_shares_of_unequal_length_count_by_their_entries(monkeypatch, share):
    """This process has two of seven entries, or none; the other one's statistics come as the collective brings them."""
    torch.manual_seed(0)
    inputs = torch.randn(7, 3) * torch.arange(1, 8)[:, None] + 20
    own, other = inputs[:share], inputs[share:]

    def add_the_other(rows):
        rows[1] = torch.cat([other.mean(0), other.var(0, correction=0), torch.tensor([7.0 - share])])

    for name, answer in (("all_reduce", add_the_other), ("get_world_size", lambda: 2), ("get_rank", lambda: 0)):
        monkeypatch.setattr(batch_norm.dist, name, answer)
    monkeypatch.setattr(batch_norm, "is_distributed", lambda: True)
    expected, actual = nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3))
    synchronize_batch_norm(actual)
    torch.testing.assert_close(actual(own), expected(inputs)[:share])
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(actual[0].state_dict()[key], value)


def test_half_precision_keeps_its_type_and_sums_in_float32(synchronized):
    norm = nn.BatchNorm2d(2)
    synchronized(norm)
    answer = norm(torch.full((400, 2, 4, 4), 300.0, dtype=torch.bfloat16) + torch.randn(400, 2, 4, 4).bfloat16())
    assert answer.dtype == torch.bfloat16
    assert answer.float().isfinite().all()


def test_with_one_process_nothing_changes():
    norm = nn.BatchNorm2d(3)
    synchronize_batch_norm(norm)
    assert type(norm) is nn.BatchNorm2d


def test_an_unknown_kind_is_named_with_what_to_do(synchronized):
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="does not know Own \\(0\\); use 'local' or 'frozen'"):
        synchronized(nn.Sequential(Own(3)))


def test_frozen_ones_keep_their_statistics():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    freeze_batch_norm(network)
    network(torch.randn(4, 3, 5, 5))
    assert torch.equal(network[1].running_mean, torch.zeros(3))
    assert network[0].training
