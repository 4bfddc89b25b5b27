import numpy as np
import pytest

from ipad_rerank import rank
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def naive_expand(query, gallery, k, alpha):
    """One query and one candidate at a time."""
    moved = []
    for q in unit(query):
        cosine = unit(gallery) @ q
        total = q.copy()
        for j in np.argsort(-cosine, kind="stable")[:k]:
            weight = 1.0 if alpha is None else max(0.0, cosine[j]) ** alpha
            total += weight * unit(gallery)[j]
        moved.append(total / np.linalg.norm(total))
    return np.array(moved)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(9, 5)), rng.normal(size=(40, 5))


@pytest.mark.parametrize("k", [1, 7, 500])
@pytest.mark.parametrize("alpha", [None, 0.0, 1.0, 3.0])
def test_matches_loop(data, k, alpha):
    expansion = AverageQueryExpansion(k) if alpha is None else AlphaQueryExpansion(k, alpha)
    expected = naive_expand(*data, k, alpha)
    if alpha == 0.0:
        expected = naive_expand(*data, k, None)
    np.testing.assert_allclose(expansion.expand(*data, rank(*data)), expected, atol=1e-12)


def test_hand_number():
    query, gallery = [[1.0, 0.0]], [[0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]
    ranking = rank(query, gallery)
    # (1, 0) + 0.6^2 * (0.6, 0.8) = (1.216, 0.288); the second candidate has cosine 0, the third a negative one
    expected = unit(np.array([[1.216, 0.288]]))
    np.testing.assert_allclose(AlphaQueryExpansion(3, 2.0).expand(query, gallery, ranking), expected, atol=1e-6)
    # (1, 0) + (0.6, 0.8)
    np.testing.assert_allclose(
        AverageQueryExpansion(1).expand(query, gallery, ranking), unit(np.array([[1.6, 0.8]])), atol=1e-6
    )


def test_rerank_is_a_search_with_the_moved_query(data):
    query, gallery = data
    ranking = rank(query, gallery, k=12)
    expansion = AlphaQueryExpansion(k=5, alpha=2.0)
    expected = rank(naive_expand(query, gallery, 5, 2.0), gallery, k=12)
    found = expansion.rerank(query, gallery, ranking)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)


def test_a_query_that_meets_only_zeros_stays():
    moved = AverageQueryExpansion(2).expand(
        [[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0]], rank([[0.0, 2.0]] * 2, [[0.0, 0.0]])
    )
    np.testing.assert_allclose(moved, [[0.0, 1.0], [0.0, 0.0]])


@pytest.mark.parametrize("options", [{"k": 0}, {"alpha": -1.0}, {"alpha": float("inf")}, {"alpha": float("nan")}])
def test_bad_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AlphaQueryExpansion(**options)
