import numpy as np
import pytest

from ipad_rerank import Ranking, rank
from ipad_rerank.metrics import average_precision, oracle_average_precision, oracle_mean_average_precision


@pytest.fixture
def retrieval():
    rng = np.random.default_rng(0)
    ranking = rank(rng.normal(size=(20, 6)), rng.normal(size=(50, 6)))
    return ranking, rng.integers(0, 4, 20), rng.integers(0, 4, 50), rng.integers(0, 2, 20), rng.integers(0, 2, 50)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n_r", [1, 10, 50, 900])
@pytest.mark.parametrize("at", [None, 5])
def test_is_the_best_order_of_the_head(retrieval, n_r, at, grouped):
    ranking, own, items, groups, item_groups = retrieval
    arguments = (groups, item_groups) if grouped else (None, None)
    best = ranking.indices.copy()
    for i, row in enumerate(best):
        relevant = items[row[:n_r]] == own[i]
        if grouped:
            relevant &= item_groups[row[:n_r]] == groups[i]
        row[:n_r] = row[:n_r][np.argsort(~relevant, kind="stable")]
    expected = average_precision(Ranking(best, ranking.scores), own, items, *arguments, at=at)
    actual = oracle_average_precision(ranking, own, items, n_r, *arguments, at=at)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_is_a_ceiling_that_rises_to_one(retrieval):
    ranking, own, items, *_ = retrieval
    before = average_precision(ranking, own, items)
    last = before
    for n_r in (2, 5, 20, 50):
        ceiling = oracle_average_precision(ranking, own, items, n_r)
        assert (ceiling >= last - 1e-12).all()
        last = ceiling
    np.testing.assert_allclose(last, 1.0)
    assert oracle_mean_average_precision(ranking, own, items, 1) == pytest.approx(before.mean())


def test_rejects_n_r_below_one(retrieval):
    with pytest.raises(ValueError, match="n_r must be at least 1"):
        oracle_average_precision(*retrieval[:3], 0)
