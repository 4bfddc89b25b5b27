from __future__ import annotations

import math

import pytest
import torch

from ipad_rerank.rerankers.guard import Gate
from ipad_rerank.rerankers.guard.gate import BINS, Known, bin_names, bin_of, worst_of

NONE = torch.arange(0)


def known(features, relevant, weights=None, thinned=0, cases=NONE):
    """The last ``thinned`` rows are the first queries once more."""
    count = len(features) - thinned
    weights = torch.ones(count, dtype=torch.float64) if weights is None else weights.double()
    numbers = torch.cat([torch.arange(count), torch.arange(thinned)])
    return Known(features.double(), relevant.double(), weights, numbers, cases)


def test_a_gate_learns_where_the_gain_is():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, 3, generator=generator, dtype=torch.float64)
    gains = torch.where(features[:, 1] > 0, 0.1, -0.1)
    given = known(features, torch.where(features[:, 1] > 0, 100, 5))
    gate, opens = Gate.fit(given, gains)
    assert float((gate.opens(features) == (features[:, 1] > 0)).double().mean()) > 0.95
    assert float((opens == (features[:, 1] > 0)).double().mean()) > 0.9
    assert not bool(Gate.fit(given, -gains.abs())[0].opens(features).any())
    assert bool(Gate.fit(given, gains.abs())[0].opens(features).all())


def test_the_worst_group_is_the_one_of_the_least_gain_less_its_error():
    gains = torch.tensor([0.1] * 10 + [0.02, 0.04] * 5 + [-1.0] * 4, dtype=torch.float64)
    given = known(torch.zeros(24, 1), torch.tensor([300] * 10 + [20] * 10 + [3] * 4))  # four queries are too few
    error = gains[10:20].std() / 10**0.5
    assert worst_of(given.judged(gains)) == pytest.approx(float(0.03 - error))
    assert worst_of([]) == 0.0


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
    assert float(Gate.fit(known(features, relevant, helped), gains)[0].bias) > 0
    assert float(Gate.fit(known(features, relevant, 1.1 - helped), gains)[0].bias) < 0
    twice = Gate.fit(known(features, relevant, 2 * torch.ones(400)), gains)[0]
    assert twice == Gate.fit(known(features, relevant), gains)[0]


def test_what_is_judged_matches_plain_loops():
    generator = torch.Generator().manual_seed(1)
    relevant = torch.tensor([0, 3, 60, 400])[torch.randint(4, (200,), generator=generator)]
    cases, gains = torch.randint(9, (80,), generator=generator), torch.rand(200, generator=generator).double()
    found = known(torch.zeros(200, 1), relevant, thinned=80, cases=cases).judged(gains)
    expected = []
    for low, high in ((1, 10), (50, 200), (200, math.inf)):
        expected.append([float(gains[i]) for i in range(120) if low <= relevant[i] < high])
    for low, high in ((1, 10), (50, 200), (200, math.inf)):
        of_case = {}
        for i in range(120, 200):
            if low <= relevant[i] < high:
                of_case.setdefault(int(cases[i - 120]), []).append(float(gains[i]))
        expected.append([sum(of_case[case]) / len(of_case[case]) for case in sorted(of_case)])
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.tensor(other, dtype=torch.float64))


def test_bins_weigh_alike_in_the_regression_and_thinned_galleries_less():
    relevant = torch.tensor([300] * 900 + [20] * 97 + [2] * 3 + [5] * 50)
    weights = 1000 * (torch.rand(1000, generator=torch.Generator().manual_seed(0)).double() + 0.1)
    shares = known(torch.zeros(1050, 1), relevant, weights, thinned=50, cases=torch.zeros(50)).shares()
    assert float(shares.sum()) == pytest.approx(1050)
    large, medium, few = shares[:900].sum(), shares[900:997].sum(), shares[997:1000].sum()
    assert float(large) == pytest.approx(float(medium)), "50 queries or more are enough"
    assert float(few) == pytest.approx(float(medium) * 3 / 50), "three queries weigh little"
    torch.testing.assert_close(shares[:900] / large, weights[:900] / weights[:900].sum())  # within a bin as given
    assert float(shares[1000:].sum() / shares[:1000].sum()) == pytest.approx(0.3)


def test_the_gain_is_that_of_galleries_as_they_are():
    weights = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    given = known(torch.zeros(5, 1), torch.full((5,), 20), weights, thinned=2, cases=torch.zeros(2))
    assert given.gain(torch.tensor([0.1, 0.3, -0.2, 9.0, -9.0])) == pytest.approx((0.1 + 0.9 - 0.4) / 6)


def test_thinned_classes_tell_what_no_small_class_does():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(900, 2, generator=generator, dtype=torch.float64)
    relevant = torch.full((900,), 80)
    relevant[600:], features[600:, 0] = 4, features[600:, 0] - 6  # small classes look different, and lose
    gains = torch.where(relevant > 9, 0.05, -0.2) + 0.02 * torch.randn(900, generator=generator).double()
    alone = Gate.fit(known(features[:600], relevant[:600]), gains[:600])[0]
    assert bool(alone.opens(features).all())
    gate = Gate.fit(known(features, relevant, thinned=300, cases=torch.arange(300) // 10), gains)[0]
    opens = gate.opens(features).double()
    assert float(opens[:600].mean()) > 0.8
    assert float(opens[600:].mean()) < 0.1


@pytest.mark.parametrize(("loss", "spread", "opens"), [(0.003, 0.0, True), (0.0045, 0.0, False), (0.001, 0.2, False)])
@pytest.mark.parametrize("is_thinned", [False, True])
def test_a_bin_may_lose_a_trace_if_that_is_sure(loss, spread, opens, is_thinned):
    features = torch.randn(260, 2, generator=torch.Generator().manual_seed(0)) * 1e-9  # they show nothing
    relevant, gains = torch.full((260,), 30), torch.full((260,), 0.05, dtype=torch.float64)
    relevant[200:], gains[200:] = 5, -loss
    gains[200:230] += spread
    gains[230:] -= spread
    cases = torch.arange(60) if is_thinned else NONE
    gate, _ = Gate.fit(known(features, relevant, thinned=len(cases), cases=cases), gains)
    assert bool(gate.opens(features).all()) == opens
