import numpy as np
import pytest

from ipad_rerank.metrics import paired_bootstrap


def test_interval_is_the_normal_one_for_many_queries():
    rng = np.random.default_rng(0)
    before = rng.uniform(size=4000)
    after = before + rng.normal(0.02, 0.1, size=4000)
    found = paired_bootstrap(before, after, samples=4000)
    gains = after - before
    half = 1.959964 * gains.std() / np.sqrt(len(gains))
    assert found.difference == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - half, abs=3e-4)
    assert found.high == pytest.approx(gains.mean() + half, abs=3e-4)
    assert found.excludes_zero
    assert found.queries == 4000


def test_same_seed_same_interval_whatever_the_chunks(monkeypatch):
    before, after = np.random.default_rng(0).uniform(size=(2, 50))
    first = paired_bootstrap(before, after, seed=3)
    monkeypatch.setattr("ipad_rerank.search.memory.work_budget", lambda _: 17 * 64 * 50)
    assert paired_bootstrap(before, after, seed=3) == first
    assert paired_bootstrap(before, after, seed=4) != first


def test_no_difference_has_an_empty_interval():
    found = paired_bootstrap([0.1, 0.5], [0.1, 0.5])
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero


def test_skipped_queries_leave_as_pairs():
    found = paired_bootstrap([0.1, np.nan, 0.3, 0.4], [0.2, 0.9, np.nan, 0.5])
    assert found.queries == 2
    assert found.difference == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        ([0.1], [0.1, 0.2], {}, "before has 1 queries, after has 2"),
        ([np.nan], [0.1], {}, "no pair"),
        ([0.1], [0.1], {"confidence": 1.0}, "confidence must be within"),
        ([0.1], [0.1], {"samples": 0}, "samples must be at least 1"),
    ],
)
def test_bad_input(before, after, options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(before, after, **options)
