from __future__ import annotations

import math

import pytest
import torch

from ipad_core.losses import ForegroundBackgroundLoss


def loop_contrast(spatial, semantic, background, attribute_ids, value_ids, tau, epsilon):
    """Eq. 15, exponential by exponential."""

    def e(a, b):
        return math.exp(float(a @ b) / float(a.norm() * b.norm()) / tau)

    total, count = 0.0, len(spatial)
    for i in range(count):
        own = sum(e(spatial[i], semantic[j]) for j in range(count) if value_ids[j] == value_ids[i])
        omega = sum(e(spatial[i], semantic[j]) for j in range(count) if value_ids[j] != value_ids[i])
        phi = sum(e(spatial[i], background[j]) for j in range(count) if attribute_ids[j] == attribute_ids[i])
        total -= math.log(own / (omega + own + epsilon * phi))
    return total / count


def batch(count=8, dim=5, dtype=torch.float64):
    attribute_ids = torch.randint(0, 2, (count,))
    return *torch.randn(3, count, dim, dtype=dtype), attribute_ids, attribute_ids * 2 + torch.randint(0, 2, (count,))


@pytest.mark.parametrize("tau", [0.07, 1.0])
@pytest.mark.parametrize("epsilon", [0.0, 1.0, 12.0])
def test_matches_loop_of_equation_15(tau, epsilon):
    inputs = batch()
    expected = loop_contrast(*inputs, tau, epsilon)
    actual = ForegroundBackgroundLoss(tau, epsilon)(*inputs)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_hand_worked():
    ones, ids = torch.ones(2, 3), torch.tensor([0, 0])
    # All cosines are 1: -log(1 / (2 + 12 * 2)) with values apart, -log(2 / 26) with one value.
    assert ForegroundBackgroundLoss()(ones, ones, ones, ids, torch.tensor([0, 1])).item() == pytest.approx(
        math.log(26)
    )
    assert ForegroundBackgroundLoss()(ones, ones, ones, ids, ids).item() == pytest.approx(math.log(13))


def test_falls_when_foregrounds_agree_and_backgrounds_do_not():
    spatial, semantic, background, attribute_ids, value_ids = batch()
    loss = ForegroundBackgroundLoss()
    assert loss(spatial, spatial, -spatial, attribute_ids, value_ids) < loss(
        spatial, semantic, background, attribute_ids, value_ids
    )
    assert loss(spatial, -spatial, spatial, attribute_ids, value_ids) > loss(
        spatial, semantic, background, attribute_ids, value_ids
    )


def test_never_negative_and_scale_free():
    spatial, semantic, background, *ids = batch()
    loss = ForegroundBackgroundLoss()
    value = loss(spatial, semantic, background, *ids)
    assert value >= 0
    torch.testing.assert_close(loss(100 * spatial, 0.1 * semantic, 3 * background, *ids), value)


def test_backgrounds_of_other_attributes_do_not_count():
    spatial, semantic, background, _, _ = batch(2)
    ids, loss = torch.tensor([0, 1]), ForegroundBackgroundLoss()
    first = loss(spatial, semantic, background, ids, ids)
    spatial.requires_grad_()
    background.requires_grad_()
    row = loss(spatial, semantic, background, ids, ids)
    torch.testing.assert_close(row, first)
    (gradient,) = torch.autograd.grad(loss(spatial[:1], semantic[:1], background[:1], ids[:1], ids[:1]), background)
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0, -6e4], ids=["zero", "identical", "huge"])
@pytest.mark.parametrize("epsilon", [0.0, 12.0])
def test_finite_in_low_precision(dtype, value, epsilon):
    spatial, semantic, background = (torch.full((4, 8), value, dtype=dtype, requires_grad=True) for _ in range(3))
    ids = torch.tensor([0, 0, 1, 1])
    with torch.autocast("cpu", torch.bfloat16):
        loss = ForegroundBackgroundLoss(0.07, epsilon)(spatial, semantic, background, ids, torch.arange(4))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert spatial.grad.isfinite().all()
    assert semantic.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": -1.0}, {"background_weight": -1.0}])
def test_rejects_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ForegroundBackgroundLoss(**options)


def test_rejects_shapes():
    spatial, semantic, background, attribute_ids, value_ids = batch()
    loss = ForegroundBackgroundLoss()
    with pytest.raises(ValueError, match="must be \\(B, d\\) of one shape"):
        loss(spatial, semantic[:, :2], background, attribute_ids, value_ids)
    with pytest.raises(ValueError, match=r"attribute_ids and value_ids must be \(8,\)"):
        loss(spatial, semantic, background, attribute_ids[:3], value_ids)


def test_gradcheck():
    spatial, semantic, background, *ids = batch(4, 3)
    inputs = [t.clone().requires_grad_() for t in (spatial, semantic, background)]
    assert torch.autograd.gradcheck(lambda *t: ForegroundBackgroundLoss(0.5)(*t, *ids), inputs)


def test_other_values_of_the_same_image_are_no_negatives():
    spatial, semantic, background = torch.randn(3, 4, 5, dtype=torch.float64).unbind()
    attributes, values, images = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 2]), torch.tensor([5, 5, 6, 5])
    loss = ForegroundBackgroundLoss(0.5, 2.0)
    rows, columns, backs = (torch.nn.functional.normalize(t, dim=1) for t in (spatial, semantic, background))
    expected = 0.0
    for i in range(4):
        positives = sum(float((rows[i] @ columns[j] / 0.5).exp()) for j in range(4) if values[j] == values[i])
        others = sum(
            float((rows[i] @ columns[j] / 0.5).exp())
            for j in range(4)
            if values[j] != values[i] and not (images[i] == images[j] and attributes[i] == attributes[j])
        )
        behind = sum(float((rows[i] @ backs[j] / 0.5).exp()) for j in range(4) if attributes[j] == attributes[i])
        expected -= math.log(positives / (positives + others + 2 * behind)) / 4
    actual = loss(spatial, semantic, background, attributes, values, images)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))
    assert actual < loss(spatial, semantic, background, attributes, values)
