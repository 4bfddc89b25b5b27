from __future__ import annotations

import math

import pytest
import torch

from ipad_core.layers import suppress
from ipad_core.layers.adaptive_suppression import RULES, relative_height


def loop_suppress(activation, rule, ratio):
    """Eq. 2, position by position, with the threshold on the map's range."""
    result = []
    for row in activation.tolist():
        low, high = min(row), max(row)
        kept = []
        for value in row:
            height = (value - low) / (high - low)
            if rule == "soft":
                kept.append(value + math.log(1 / (1 + math.exp(-(height - ratio) / 0.1))))
            elif (height >= ratio) if rule == "keep_peak" else (height <= ratio):
                kept.append(value)
            else:
                kept.append(low if high <= 0 else min(0.0, value) if rule == "keep_peak" else 0.0)
        result.append(kept)
    return torch.tensor(result, dtype=activation.dtype)


@pytest.mark.parametrize("shift", [0.0, 3.0, -10.0], ids=["mixed", "positive", "all negative"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.95])
@pytest.mark.parametrize("rule", ["soft", "keep_peak", "erase_peak"])
def test_matches_loop(rule, ratio, shift):
    activation = torch.randn(4, 9, dtype=torch.float64) + shift
    torch.testing.assert_close(suppress(activation, rule, ratio), loop_suppress(activation, rule, ratio))


@pytest.mark.parametrize("shift", [0.0, 3.0, -10.0])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.95])
def test_keeping_the_peak_raises_nothing_above_what_it_keeps(ratio, shift):
    activation = torch.randn(32, 25) + shift
    kept = relative_height(activation) >= ratio
    suppressed = suppress(activation, "keep_peak", ratio)
    assert (suppressed <= activation).all()
    lowest_kept = suppressed.masked_fill(~kept, torch.inf).amin(dim=1, keepdim=True)
    assert (suppressed.masked_fill(kept, -torch.inf) <= lowest_kept).all()


def test_a_negative_activation_is_not_lifted_to_zero():
    suppressed = suppress(torch.tensor([[-10.0, -9.0, -0.3, 0.1]]), "keep_peak", 0.95)
    assert suppressed.tolist() == [[-10.0, -9.0, pytest.approx(-0.3), pytest.approx(0.1)]]


def test_hand_worked():
    activation = torch.tensor([[0.0, 1.0, 9.5, 10.0]])
    assert suppress(activation, "keep_peak", 0.95).tolist() == [[0.0, 0.0, 9.5, 10.0]]
    assert suppress(activation, "erase_peak", 0.96).tolist() == [[0.0, 1.0, 9.5, 0.0]]
    assert suppress(activation, "none", 0.95) is activation


@pytest.mark.parametrize("rule", ["keep_peak", "soft", "none"])
@pytest.mark.parametrize("shift", [0.0, -10.0], ids=["mixed", "all negative"])
def test_the_peak_stays_the_peak(rule, shift):
    activation = torch.randn(16, 25) + shift
    peak = suppress(activation, rule, 0.95).argmax(dim=1)
    assert torch.equal(peak, activation.argmax(dim=1))


@pytest.mark.parametrize("shift", [5.0, 0.0], ids=["positive", "mixed"])
def test_erase_peak_erases_the_peak(shift):
    activation = torch.randn(16, 25) + shift
    erased = suppress(activation, "erase_peak", 0.95)
    assert (erased.argmax(dim=1) != activation.argmax(dim=1)).all()


@pytest.mark.parametrize("shift", [1.0, -4.0], ids=["positive", "all negative"])
@pytest.mark.parametrize("rule", RULES)
def test_constant_map_stays_constant(rule, shift):
    changed = suppress(torch.full((2, 9), shift), rule, 0.5)
    assert changed.isfinite().all()
    assert (changed == changed[:, :1]).all()


@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule):
    activation = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    if rule == "soft":  # the height carries no gradient by definition, so the slope is one everywhere
        suppress(activation, rule, 0.5).sum().backward()
        torch.testing.assert_close(activation.grad, torch.ones_like(activation))
    else:
        assert torch.autograd.gradcheck(lambda a: suppress(a, rule, 0.5), activation)


def test_hard_mask_gives_gradient_to_the_kept_only():
    activation = torch.tensor([[0.5, 1.0, 10.0]], requires_grad=True)
    suppress(activation, "keep_peak", 0.95).sum().backward()
    assert activation.grad.tolist() == [[0.0, 0.0, 1.0]]


def test_unknown_rule():
    with pytest.raises(ValueError, match="suppression must be one of none, soft"):
        suppress(torch.zeros(1, 4), "hard", 0.5)


def test_relative_height_spans_zero_to_one():
    height = relative_height(torch.randn(3, 10) * 100)
    assert height.amin(1).tolist() == [0.0] * 3
    assert height.amax(1).tolist() == [1.0] * 3
    assert relative_height(torch.ones(1, 4)).tolist() == [[0.0] * 4]
