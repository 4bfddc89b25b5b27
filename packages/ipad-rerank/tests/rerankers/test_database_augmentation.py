import numpy as np
import pytest

from ipad_rerank import rank
from ipad_rerank.rerankers.database_augmentation import DatabaseAugmentation
from ipad_rerank.search.cosine import gallery_neighbors


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def naive_augment(gallery, k, alpha):
    """One gallery vector and one neighbor at a time."""
    gallery, moved = unit(gallery), []
    for i, g in enumerate(gallery):
        cosine = gallery @ g
        cosine[i] = -np.inf
        total = g.copy()
        for j in np.argsort(-cosine, kind="stable")[: min(k, len(gallery) - 1)]:
            total += max(0.0, cosine[j]) ** alpha * gallery[j]
        moved.append(total)
    return unit(np.array(moved))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(9, 5)), rng.normal(size=(40, 5))


@pytest.mark.parametrize("k", [1, 7, 500])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_matches_loop(data, k, alpha):
    query, gallery = data
    expected = naive_augment(gallery, k, alpha)
    augmentation = DatabaseAugmentation(k, alpha)
    np.testing.assert_allclose(augmentation.augment(gallery), expected, atol=1e-12)
    # Scores, not indices: mutual neighbors can end up on the same spot.
    found = augmentation.rerank(query, gallery, rank(query, gallery, k=15))
    np.testing.assert_allclose(found.scores, rank(query, expected, k=15).scores, atol=1e-12)
    whole = DatabaseAugmentation(k, alpha, restrict_to=40).rerank(query, gallery, rank(query, gallery))
    np.testing.assert_allclose(whole.scores, rank(query, expected).scores, atol=1e-12)
    cosine = unit(query) @ expected.T
    np.testing.assert_allclose(whole.scores, np.take_along_axis(cosine, whole.indices, axis=1), atol=1e-12)


def test_neighbors_given_are_used(data):
    augmentation = DatabaseAugmentation(3)
    neighbors = gallery_neighbors(data[1], 20)
    np.testing.assert_array_equal(augmentation.augment(data[1], neighbors), augmentation.augment(data[1]))


def test_neighbors_leave_each_row_out_even_among_duplicates():
    gallery = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 6, axis=0)
    found = gallery_neighbors(gallery, 3)
    assert not (found.indices == np.arange(24)[:, None]).any()
    assert (found.indices // 6 == np.arange(24)[:, None] // 6).all()
    np.testing.assert_allclose(found.scores, np.ones((24, 3)))


@pytest.mark.parametrize("options", [{"k": 0}, {"alpha": -1.0}])
def test_bad_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DatabaseAugmentation(**options)
