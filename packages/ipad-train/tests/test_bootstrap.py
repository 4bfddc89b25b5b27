from __future__ import annotations

import numpy as np
import pytest

from ipad_train.bootstrap import mean_interval, paired_difference


def test_a_constant_gain_is_certain():
    second = np.random.default_rng(0).random(50)
    found = paired_difference(("a", "b"), second + 0.03, second)
    assert (found.first, found.second) == ("a", "b")
    assert found[2:] == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_is_that_of_the_mean_of_the_paired_gains():
    random = np.random.default_rng(1)
    hard = random.random(400)  # what makes a query hard cancels
    gains = 0.02 + 0.1 * random.standard_normal(400)
    found = paired_difference(("a", "b"), hard + gains, hard)
    half = 100 * 1.96 * gains.std() / 400**0.5
    assert found.mean == pytest.approx(100 * gains.mean())
    assert found.low == pytest.approx(found.mean - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.1 * half)


def test_seeds_are_averaged_query_by_query_before_they_are_drawn():
    first = np.array([[0.5, 0.1, 0.3], [0.3, 0.3, 0.3]])
    found = paired_difference(("a", "b"), first, np.zeros((2, 3)))
    same = paired_difference(("a", "b"), first.mean(axis=0), np.zeros(3))
    assert found == same
    assert found == paired_difference(("a", "b"), first, np.zeros((2, 3)))


def test_other_queries_are_refused():
    with pytest.raises(ValueError, match=r"a and b must have the same queries, got \(3,\) and \(4,\)"):
        paired_difference(("a", "b"), np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="no queries"):
        paired_difference(("a", "b"), np.zeros(0), np.zeros(0))


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(2).random(14)
    low, high = mean_interval(values)
    assert low < values.mean() < high
    error = values.std() / np.sqrt(len(values))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    many = np.tile(values, 100)
    assert np.subtract(*mean_interval(many)) == pytest.approx((low - high) / 10, rel=0.1)
