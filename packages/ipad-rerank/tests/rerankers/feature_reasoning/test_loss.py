"""Eq. 17."""

from __future__ import annotations

import math

import pytest
import torch

from ipad_rerank import FeatureReasoningLoss


def naive_loss(similarities, is_positive, temperature, rows):
    """Sums of Eq. 17 in plain loops, divided by the number of pairs."""
    total, pairs = 0.0, 0
    for s, same in zip(similarities.tolist(), is_positive.tolist(), strict=True):
        same[0] = True
        n = len(same)
        for i in range(n if rows == "all" else 1):
            if not same[i]:
                continue
            for j in range(n):
                if i == j or not same[j]:
                    continue
                positive = math.exp(s[i][j] / temperature)
                negatives = sum(math.exp(s[i][k] / temperature) for k in range(n) if not same[k])
                total -= math.log(positive / (positive + negatives))
                pairs += 1
    return total / max(pairs, 1)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    similarities = torch.rand(3, 7, 7, dtype=torch.float64, generator=generator) * 2 - 1
    return similarities, torch.rand(3, 7, generator=generator) < 0.5


@pytest.mark.parametrize("rows", ["query", "all"])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_matches_loop_reference(batch, rows, temperature):
    actual = FeatureReasoningLoss(temperature, rows)(*batch)
    torch.testing.assert_close(float(actual), naive_loss(*batch, temperature, rows))


def test_one_positive_equal_to_one_negative_gives_log_two():
    loss = FeatureReasoningLoss()(torch.tensor([[1.0, 0.3, 0.3]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(float(loss), math.log(2.0))


def test_query_row_and_matrix_agree(batch):
    similarities, is_positive = batch
    criterion = FeatureReasoningLoss()
    torch.testing.assert_close(criterion(similarities, is_positive), criterion(similarities[:, 0], is_positive))


@pytest.mark.parametrize("positive", [True, False])
def test_nothing_to_tell_apart_gives_zero_with_finite_gradient(positive):
    row = torch.rand(1, 5, requires_grad=True)
    loss = FeatureReasoningLoss()(row, torch.full((1, 5), positive))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(row.grad).all()


def test_no_overflow_at_small_temperatures():
    loss = FeatureReasoningLoss(1e-4)(torch.tensor([[1.0, -1.0, 1.0]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(loss.item(), 20000.0)


@pytest.mark.parametrize("rows", ["query", "all"])
def test_gradcheck(batch, rows):
    similarities, is_positive = batch
    criterion = FeatureReasoningLoss(0.5, rows)
    assert torch.autograd.gradcheck(lambda s: criterion(s, is_positive), similarities.requires_grad_())


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"rows": "none"}])
def test_rejects_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FeatureReasoningLoss(**options)


def test_rejects_wrong_shapes():
    with pytest.raises(ValueError, match="is_positive"):
        FeatureReasoningLoss(rows="all")(torch.rand(2, 5), torch.ones(2, 5, dtype=torch.bool))
