from __future__ import annotations

import math

import pytest
import torch

from ipad_rerank.rerankers.guard import Gate
from ipad_rerank.rerankers.guard.gate import BINS, Known, Regression, bin_names, bin_of, expected_square


def wide(shown, doubt=0.0):
    """What a census and a neighborhood would say: all they have in common with these features is that they hold them."""
    told, rest = torch.zeros(len(shown), 8), torch.zeros(len(shown), 11)
    told[:, : shown.shape[1]] = shown
    rest[:, : shown.shape[1]] = shown
    return torch.cat([torch.full((len(shown), 1), doubt), told, rest], dim=1).double()


def known(features, relevant, weights=None, thinned=0, classes=None):
    """The last ``thinned`` rows are the first queries once more. Classes are those of ten queries each."""
    count = len(features) - thinned
    weights = torch.ones(count, dtype=torch.float64) if weights is None else weights.double()
    numbers = torch.cat([torch.arange(count), torch.arange(thinned)])
    classes = torch.arange(len(features)) // 10 if classes is None else classes
    return Known(wide(features), relevant.double(), weights, numbers, classes)


def test_a_gate_learns_where_the_gain_is():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, 3, generator=generator, dtype=torch.float64)
    gains = torch.where(features[:, 1] > 0, 0.1, -0.1)
    given = known(features, torch.where(features[:, 1] > 0, 100, 5))
    gate, predicted = Gate.fit(given, gains)
    assert float((gate.opens(wide(features)) == (features[:, 1] > 0)).double().mean()) > 0.95
    assert float(((predicted > 0) == (features[:, 1] > 0)).double().mean()) > 0.9
    assert not bool(Gate.fit(given, -gains.abs())[0].opens(wide(features)).any())
    assert bool(Gate.fit(given, gains.abs())[0].opens(wide(features)).all())


def test_predictions_are_of_regressions_without_the_query():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    gains, relevant = 0.1 * torch.rand(60, generator=generator).double(), torch.full((60,), 20)
    given = known(features, relevant, thinned=20)
    _, predicted = Gate.fit(given, gains)
    changed = gains.clone()
    changed[[3, 43]] -= 0.2  # query 3, and the same query in a thinned gallery
    _, other = Gate.fit(given, changed)
    own = given.numbers % 5 == 3
    torch.testing.assert_close(predicted[own], other[own])
    assert bool((predicted[~own] != other[~own]).all())


def test_bins():
    assert bin_names() == ["1-9", "10-49", "50-199", "200+"]
    assert len(BINS) == 4
    assert bin_of(torch.tensor([0, 1, 9, 10, 49, 50, 199, 200, 9999])).tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3]


def test_queries_that_count_more_decide():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    gains = torch.where(torch.arange(400) % 2 == 0, 0.1, -0.12)  # nothing that the features show
    relevant = torch.full((400,), 3)
    relevant[:200] = 60
    helped = torch.where(gains > 0, 1.0, 0.1)
    assert float(Gate.fit(known(features, relevant, helped), gains)[0].known.bias) > 0
    assert float(Gate.fit(known(features, relevant, 1.1 - helped), gains)[0].known.bias) < 0
    twice = Gate.fit(known(features, relevant, 2 * torch.ones(400)), gains)[0]
    assert twice == Gate.fit(known(features, relevant), gains)[0]


def naive_risk(gains, relevant, classes, count):
    total = 0.0
    for low, high in ((1, 10), (10, 50), (50, 200), (200, math.inf)):
        groups = []
        for rows in (range(count), range(count, len(gains))):
            rows = [i for i in rows if low <= relevant[i] < high]
            if len(rows) >= 5:
                names = sorted({int(classes[i]) for i in rows})
                of_class = [[float(gains[i]) for i in rows if int(classes[i]) == name] for name in names]
                groups.append(([float(gains[i]) for i in rows], [sum(v) / len(v) for v in of_class]))
        freedom = sum(len(means) - 1 for _, means in groups)
        squares = sum((v - sum(means) / len(means)) ** 2 for _, means in groups for v in means)
        for values, means in groups:
            mean, error = sum(values) / len(values), (squares / freedom / len(means)) ** 0.5
            steps = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
            density = torch.exp(-steps.square() / 2) / (2 * math.pi) ** 0.5
            total += float(torch.trapezoid((-(mean + error * steps)).clamp_min(0).square() * density, steps))
    return total


def test_risk_matches_plain_loops():
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(12, (200,), generator=generator)
    relevant = torch.tensor([0, 3, 60, 400])[classes % 4]
    classes[120:] += 100
    gains = 0.1 * torch.randn(200, generator=generator).double() - 0.02
    found = known(torch.zeros(200, 1), relevant, thinned=80, classes=classes).risk(gains)
    assert found == pytest.approx(naive_risk(gains, relevant, classes, 120), rel=1e-6)


def test_risk_by_hand():
    relevant, gains = torch.full((20,), 30), torch.full((20,), -0.02, dtype=torch.float64)
    given = known(torch.zeros(20, 1), relevant)
    assert given.risk(gains) == pytest.approx(0.02**2), "two classes that lose two points each, surely"
    assert given.risk(-gains) == 0
    assert given.risk(torch.zeros(20)) == 0
    apart = torch.cat([gains[:10] + 0.04, gains[10:]])  # one gains what the other loses: mean 0, error 0.02
    assert given.risk(apart) == pytest.approx(0.02**2 / 2)
    one = known(torch.zeros(20, 1), relevant, classes=torch.zeros(20))  # of one class: the error is that of queries
    assert one.risk(apart) == pytest.approx(float(apart.var()) / 20 / 2)
    assert known(torch.zeros(4, 1), relevant[:4]).risk(gains[:4]) == 0, "four queries are too few"


def test_expected_square():
    draws = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mean, error in ((0.3, 0.5), (-0.4, 0.2), (0.0, 1.0), (2.0, 0.1)):
        sampled = float((mean + error * draws).clamp_min(0).square().mean())
        assert expected_square(mean, error) == pytest.approx(sampled, rel=0.03)
    assert (expected_square(0.5, 0.0), expected_square(-0.5, 0.0)) == (0.25, 0.0)


def test_bins_weigh_alike_in_the_regression_and_thinned_galleries_less():
    relevant = torch.tensor([300] * 900 + [20] * 97 + [2] * 3 + [5] * 50)
    weights = 1000 * (torch.rand(1000, generator=torch.Generator().manual_seed(0)).double() + 0.1)
    shares = known(torch.zeros(1050, 1), relevant, weights, thinned=50).shares()
    assert float(shares.sum()) == pytest.approx(1050)
    large, medium, few = shares[:900].sum(), shares[900:997].sum(), shares[997:1000].sum()
    assert float(large) == pytest.approx(float(medium)), "50 queries or more are enough"
    assert float(few) == pytest.approx(float(medium) * 3 / 50), "three queries weigh little"
    torch.testing.assert_close(shares[:900] / large, weights[:900] / weights[:900].sum())  # within a bin as given
    assert float(shares[1000:].sum() / shares[:1000].sum()) == pytest.approx(0.3)


def test_the_gain_is_that_of_galleries_as_they_are():
    weights = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    given = known(torch.zeros(5, 1), torch.full((5,), 20), weights, thinned=2)
    assert given.gain(torch.tensor([0.1, 0.3, -0.2, 9.0, -9.0])) == pytest.approx((0.1 + 0.9 - 0.4) / 6)


def test_the_doubt_mixes_both_regressions():
    def always(count, gain):
        return Regression((0.0,) * count, (1.0,) * count, (0.0,) * 2 * count, gain)

    gate = Gate(always(8, 0.1), always(11, -0.3), 0.0)
    features = torch.cat([wide(torch.zeros(2, 1), doubt) for doubt in (0.0, 0.2, 0.5, 1.0)])
    expected = torch.tensor([0.1, 0.02, -0.1, -0.3], dtype=torch.float64).repeat_interleave(2)
    torch.testing.assert_close(gate.predict(features), expected)
    assert gate.opens(features).tolist() == [True] * 4 + [False] * 4


def test_a_regression_is_that_of_the_normal_equations():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(80, 2, generator=generator, dtype=torch.float64)
    target, counts = torch.randn(80, generator=generator).double(), torch.rand(80, generator=generator).double()
    standard = (features - features.mean(0)) / features.std(0)
    inputs = torch.cat([standard, standard**2 - 1], dim=1)  # nothing is beyond four deviations here
    middle = (target * counts).sum() / counts.sum()
    left, right = 10 * torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for row, value, count in zip(inputs, target, counts, strict=True):
        left, right = left + count * torch.outer(row, row), right + count * (value - middle) * row
    expected = inputs @ torch.linalg.inv(left) @ right + middle
    torch.testing.assert_close(Regression.fit(features, target, counts)(features), expected)
