from __future__ import annotations

import pytest
import torch

from ipad_core.clustering.discriminant import (
    SHRINKAGES,
    TEMPERATURE,
    _statistics,
    fit_discriminant,
    leave_one_out_logits,
)


@pytest.fixture
def data():
    """Thirty entries of four values in six dimensions; the values differ in the first two, the noise is correlated."""
    values = torch.tensor([0] * 12 + [1] * 10 + [2] * 7 + [3])
    centers = torch.zeros(4, 6, dtype=torch.float64)
    centers[:, :2] = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    noise = torch.randn(30, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    return centers[values] + 0.3 * noise, values


def loop_covariance(x, y, shrinkage, balanced):
    """Within-class covariance with its shrinkage, entry by entry, and the means."""
    values = sorted(set(y.tolist()))
    means = {v: x[y == v].mean(dim=0) for v in values}
    total, weight = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype), 0.0
    for row, v in zip(x, y.tolist(), strict=True):
        w = 1.0 / int((y == v).sum()) if balanced else 1.0
        total += w * torch.outer(row - means[v], row - means[v])
        weight += w
    total /= weight
    mean_spread = total.trace() / x.shape[1]
    return (1 - shrinkage) * total + shrinkage * mean_spread * torch.eye(x.shape[1], dtype=x.dtype), means


def loop_posterior(row, covariance, means, prior):
    logits = torch.stack(
        [
            prior[v] - 0.5 * TEMPERATURE * (row - mean) @ torch.linalg.solve(covariance, row - mean)
            for v, mean in means.items()
        ]
    )
    return logits.softmax(dim=0)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("dim", [6, 40], ids=["n > C", "n < C"])
def test_posterior_equals_the_gaussians_written_out(data, balanced, dim):
    x, y = data
    x = torch.cat([x, torch.randn(30, dim - 6, dtype=x.dtype)], dim=1)
    fit = fit_discriminant(x, y, balanced=balanced)
    assert fit.shrinkage in SHRINKAGES
    covariance, means = loop_covariance(x, y, fit.shrinkage, balanced)
    prior = {v: torch.zeros(()).double() if balanced else ((y == v).sum() / 30).double().log() for v in means}
    new = torch.randn(5, dim, dtype=x.dtype)  # not in the span of the rows where n < C
    expected = torch.stack([loop_posterior(row, covariance, means, prior) for row in new])
    torch.testing.assert_close((new @ fit.projection + fit.bias).softmax(dim=1), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("balanced", [False, True])
def test_directions_are_the_discriminants(data, balanced):
    x, y = data
    fit = fit_discriminant(x, y, form="directions", balanced=balanced)
    covariance, means = loop_covariance(x, y, fit.shrinkage, balanced)
    share = {v: 0.25 if balanced else int((y == v).sum()) / 30 for v in means}
    center = sum(share[v] * mean for v, mean in means.items())
    between = sum(share[v] * torch.outer(mean - center, mean - center) for v, mean in means.items())
    generalized = torch.linalg.eigvals(torch.linalg.solve(covariance, between)).real.sort(descending=True).values[:3]
    assert fit.projection.shape == (6, 3)  # V - 1
    scale = (generalized / (1 + generalized)).sqrt()
    inside = fit.projection.T @ covariance @ fit.projection
    torch.testing.assert_close(inside, torch.diag(scale.square()))
    torch.testing.assert_close(fit.projection.T @ between @ fit.projection, torch.diag(scale.square() * generalized))
    torch.testing.assert_close(center @ fit.projection + fit.bias, torch.zeros(3, dtype=x.dtype))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("shrinkage", [0.05, 0.5])
def test_leaving_one_out_equals_leaving_one_out(data, shrinkage, balanced):
    x, y = data
    classes = _statistics(x, y, balanced)
    logits = leave_one_out_logits(classes, shrinkage)
    posteriors = logits.softmax(dim=1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    covariance, means = loop_covariance(x, y, shrinkage, balanced)
    for position, i in enumerate(order.tolist()):
        size = int((y == y[i]).sum())
        if size == 1:  # an entry that is the only one of its value
            assert posteriors[position, y[i]] == 0
            torch.testing.assert_close(posteriors[position].sum(), torch.ones((), dtype=x.dtype))
            continue
        rest = torch.arange(30) != i
        residual = x[i] - means[int(y[i])]
        weight = 1 / (4 * size) if balanced else 1 / 30
        smaller = covariance - (1 - shrinkage) * weight * size / (size - 1) * torch.outer(residual, residual)
        moved = {**means, int(y[i]): x[rest & (y == y[i])].mean(dim=0)}
        counts = {v: float((y == v).sum()) - (v == int(y[i])) for v in means}
        prior = {
            v: torch.zeros(()).double() if balanced else torch.tensor(count).double().log()
            for v, count in counts.items()
        }
        torch.testing.assert_close(posteriors[position], loop_posterior(x[i], smaller, moved, prior))


def test_the_score_is_honest_on_noise_and_high_on_structure(data):
    x, y = data
    noise = fit_discriminant(torch.randn(400, 100), torch.arange(400) % 4)
    assert 0.2 < noise.score < 0.32  # chance is a quarter; without leaving out it would be near one
    assert fit_discriminant(x[:29], y[:29]).score > 0.9


def test_values_of_one_entry_each_give_the_distance_to_the_entries():
    x = torch.eye(5)
    fit = fit_discriminant(x, torch.arange(5))
    assert (x.double() @ fit.projection + fit.bias).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]
    assert fit_discriminant(x, torch.arange(5), form="directions").projection.isfinite().all()


def test_numbers_of_values_do_not_matter(data):
    x, y = data
    first, second = fit_discriminant(x, y), fit_discriminant(x, 100 + 7 * y)
    assert torch.equal(first.projection, second.projection)


@pytest.mark.parametrize(
    ("features", "values", "options", "message"),
    [
        (torch.rand(4, 2), torch.zeros(4), {}, "value_ids must hold two different values or more, got one"),
        (
            torch.rand(4, 2),
            torch.arange(3),
            {},
            r"features must be \(n, C\) and value_ids \(n,\), got \(4, 2\) and \(3,\)",
        ),
        (torch.rand(4), torch.arange(4), {}, r"features must be \(n, C\)"),
        (torch.rand(4, 2), torch.arange(4), {"form": "qda"}, "form must be one of posterior, directions, got 'qda'"),
    ],
)
def test_bad_input(features, values, options, message):
    with pytest.raises(ValueError, match=message):
        fit_discriminant(features, values, **options)
