import numpy as np
import pytest

from ipad_rerank import rank
from ipad_rerank.rerankers.k_reciprocal import overlap as overlap_module
from ipad_rerank.rerankers.k_reciprocal.reranker import KReciprocal, k_reciprocal


def dense_k_reciprocal(query, gallery, k1, k2, lambda_value):
    """Distances (Q, G) by the equations of Zhong et al. 2017, with full matrices and loops."""
    vectors = np.concatenate([query, gallery])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    distance = np.maximum(2 - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(distance, 0)
    distance = distance / distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(i, k):  # R(i, k): both among the other's k nearest (and themselves)
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    encodings = np.zeros((count, count))
    for i in range(count):
        core = reciprocal(i, k1)
        expanded = set(core)
        for j in core:
            half = reciprocal(j, round(k1 / 2))
            if 3 * len(half & core) > 2 * len(half):
                expanded |= half
        members = sorted(expanded)
        weights = np.exp(-distance[i, members])
        encodings[i, members] = weights / weights.sum()
    encodings = np.stack([encodings[order[i, :k2]].mean(axis=0) for i in range(count)])
    queries = len(query)
    jaccard = np.empty((queries, count))
    for i in range(queries):
        for j in range(count):
            least = np.minimum(encodings[i], encodings[j]).sum()
            most = np.maximum(encodings[i], encodings[j]).sum()
            jaccard[i, j] = 1 - least / most
    return ((1 - lambda_value) * jaccard + lambda_value * distance[:queries])[:, queries:]


def clusters(count, centers, noise, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(centers, dim))[rng.integers(0, centers, count)] + noise * rng.normal(size=(count, dim))


def by_gallery(ranking, gallery):
    scores = np.full((len(ranking), gallery), np.nan)
    np.put_along_axis(scores, ranking.indices, np.asarray(ranking.scores, dtype=float), axis=1)
    return scores


CASES = [
    (120, 8, 0.7, 20, 6, 0.3),
    (120, 8, 0.7, 20, 6, 0.0),
    (90, 3, 1.5, 31, 12, 0.1),  # half of k1 between two numbers, spread clusters
    (40, 3, 0.5, 200, 60, 0.3),  # more neighbors than vectors
    (60, 6, 0.4, 1, 1, 0.5),
    (60, 6, 0.4, 7, 1, 1.0),
]


@pytest.mark.parametrize(("count", "centers", "noise", "k1", "k2", "lambda_value"), CASES)
def test_matches_the_dense_algorithm(count, centers, noise, k1, k2, lambda_value):
    vectors = clusters(count, centers, noise)
    query, gallery = vectors[:15], vectors[15:]
    expected = 1 - dense_k_reciprocal(query, gallery, k1, k2, lambda_value)
    found = k_reciprocal(query, gallery, k1, k2, lambda_value)
    tolerance = 2e-9 if lambda_value == 0 else 1e-10  # at 0 a billionth of the cosine breaks ties
    np.testing.assert_allclose(by_gallery(found, len(gallery)), expected, atol=tolerance)
    np.testing.assert_array_equal(
        k_reciprocal(query, gallery, k1, k2, lambda_value, k=9).indices, found.indices[:, :9]
    )


@pytest.mark.parametrize(("count", "centers", "noise", "k1", "k2", "lambda_value"), CASES)
def test_restricted_matches_the_dense_algorithm_on_each_shortlist(count, centers, noise, k1, k2, lambda_value):
    vectors = clusters(count, centers, noise)
    query, gallery = vectors[:5], vectors[5:]
    ranking = rank(query, gallery, k=30)
    found = KReciprocal(k1, k2, lambda_value, restrict_to=30).rerank(query, gallery, ranking)
    for i in range(5):
        shortlist = ranking.indices[i]
        expected = 1 - dense_k_reciprocal(query[i : i + 1], gallery[shortlist], k1, k2, lambda_value)[0]
        order = [list(shortlist).index(j) for j in found.indices[i]]
        np.testing.assert_allclose(found.scores[i], expected[order], atol=2e-6 if lambda_value == 0 else 1e-10)


def test_float32_agrees():
    vectors = clusters(150, 6, 0.6).astype(np.float32)
    expected = 1 - dense_k_reciprocal(vectors[:20].astype(float), vectors[20:].astype(float), 20, 6, 0.3)
    found = by_gallery(k_reciprocal(vectors[:20], vectors[20:]), 130)
    assert (np.abs(found - expected) > 1e-5).mean() < 0.01  # where two neighbors are a rounding error apart


@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (60, 30)])
def test_blocks_do_not_matter(monkeypatch, k1, k2):
    vectors = clusters(200, 5, 1.0)
    expected = k_reciprocal(vectors[:40], vectors[40:], k1, k2)
    for module in ("neighborhoods", "encoding", "search", "overlap"):
        monkeypatch.setattr(f"ipad_rerank.rerankers.k_reciprocal.{module}.block_budget", lambda _: 1 << 18)
    monkeypatch.setattr("ipad_rerank.rerankers.k_reciprocal.search._BLOCK", 3000)
    found = k_reciprocal(vectors[:40], vectors[40:], k1, k2)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)
    short = k_reciprocal(vectors[:40], vectors[40:], k1, k2, k=17)
    np.testing.assert_array_equal(short.indices, expected.indices[:, :17])


def test_compact_and_by_column_give_the_same_bits(monkeypatch):
    vectors = clusters(400, 4, 1.2)
    answers = []
    for cost in (0, 1 << 40):  # never, always compact
        monkeypatch.setattr(overlap_module, "_MEETING", cost)
        answers.append(k_reciprocal(vectors[:50], vectors[50:], 40, 10).scores)
    np.testing.assert_array_equal(*answers)


def test_ties_at_lambda_zero_go_by_cosine():
    vectors = clusters(100, 10, 0.3)
    found = k_reciprocal(vectors[:10], vectors[10:], 5, 1, 0.0)
    cosine = by_gallery(rank(vectors[:10], vectors[10:]), 90)
    for row, scores, own in zip(found.indices, found.scores, cosine, strict=True):
        unrelated = row[scores < 1e-8]  # Jaccard distance 1
        assert len(unrelated) > 20
        assert (np.diff(own[unrelated]) <= 0).all()


def test_zero_vectors_do_not_disturb_the_others():
    vectors = clusters(80, 4, 0.5)
    query, gallery = vectors[:10], vectors[10:]
    expected = k_reciprocal(query, gallery, 12, 4)
    padded = np.concatenate([gallery, np.zeros((5, 8))])
    found = k_reciprocal(query, padded, 12, 4)
    np.testing.assert_array_equal(found.indices[:, :70], expected.indices)
    np.testing.assert_allclose(found.scores[:, :70], expected.scores, atol=1e-12)


@pytest.fixture
def largest_array(largest_storage, monkeypatch):
    """Bytes, with blocks held to a budget: else the blocks of a small gallery may hold all of it."""

    def measure(gallery, budget):
        monkeypatch.setattr("ipad_rerank.search.memory._CPU_CAP", budget)
        vectors = clusters(gallery + 20, gallery // 50, 0.5).astype(np.float32)
        return largest_storage(lambda: k_reciprocal(vectors[:20], vectors[20:], k=100))

    return measure


def test_no_array_grows_with_the_square_of_the_gallery(largest_array):
    gallery = 5000  # a bool matrix would have gallery * gallery bytes
    assert largest_array(gallery, 4 << 20) < gallery * gallery / 10


@pytest.mark.slow
def test_memory_grows_with_the_gallery_and_not_its_square(largest_array):
    assert largest_array(20_000, 64 << 20) < 20_000 * 20_000 / 20
    assert largest_array(40_000, 64 << 20) < 5 * largest_array(10_000, 64 << 20)


@pytest.mark.parametrize(
    "options", [{"k1": 0}, {"k2": 0}, {"lambda_value": -0.1}, {"lambda_value": 1.1}, {"k": 0}, {"restrict_to": 0}]
)
def test_bad_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        k_reciprocal(np.eye(3), np.eye(3), **options)
