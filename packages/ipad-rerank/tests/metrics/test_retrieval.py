import numpy as np
import pytest
import torch

from ipad_rerank import rank
from ipad_rerank.metrics import average_precision, retrieval_average_precision, retrieval_map


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(90, 6)).astype(np.float32))
    labels = (rng.integers(0, 4, 40), rng.integers(0, 4, 90))
    return vectors, labels, (rng.integers(0, 3, 40), rng.integers(0, 2, 90))  # group 2 is missing in the gallery


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_equals_the_metric_on_the_ranking(data, grouped, batch_size):
    vectors, labels, groups = data
    groups = groups if grouped else (None, None)
    expected = average_precision(rank(*vectors), *labels, *groups)
    actual = retrieval_average_precision(*vectors, *labels, *groups, batch_size=batch_size)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    assert retrieval_map(*vectors, *labels, *groups) == pytest.approx(expected.mean())


def test_kinds_and_precisions(data):
    vectors, labels, _ = data
    expected = retrieval_average_precision(*vectors, *labels)
    as_torch = retrieval_average_precision(*map(torch.from_numpy, vectors), *map(torch.from_numpy, labels))
    assert isinstance(as_torch, torch.Tensor)
    np.testing.assert_allclose(as_torch.numpy(), expected)
    double = retrieval_average_precision(*(v.astype(np.float64) for v in vectors), *labels)
    np.testing.assert_allclose(double, expected, atol=1e-6)
    lists = retrieval_average_precision(vectors[0].tolist(), vectors[1].tolist(), *map(list, labels))
    np.testing.assert_allclose(lists, expected, atol=1e-6)


def test_ties_and_zero_vectors_as_in_rank():
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(10, 4))[rng.integers(0, 10, 300)]
    gallery[::7] = 0
    query, labels = rng.normal(size=(20, 4)), (rng.integers(0, 3, 20), rng.integers(0, 3, 300))
    expected = average_precision(rank(query, gallery), *labels)
    np.testing.assert_allclose(retrieval_average_precision(query, gallery, *labels), expected, atol=1e-12)


def test_skips_queries_without_relevant_items(data):
    vectors, (own, items), _ = data
    own = own.copy()
    own[0] = 99
    values = retrieval_average_precision(*vectors, own, items, no_relevant="skip")
    assert np.isnan(values[0])
    assert not np.isnan(values[1:]).any()


def test_never_holds_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(200, 4)).astype(np.float32), rng.normal(size=(2000, 4)).astype(np.float32)
    labels = (rng.integers(0, 9, 200), rng.integers(0, 9, 2000))
    expected = retrieval_map(query, gallery, *labels)
    blocks = []

    def record(scores):
        blocks.append(tuple(scores.shape))
        return torch.sort(scores, descending=True, stable=True).indices

    monkeypatch.setattr("ipad_rerank.search.memory.work_budget", lambda _: 2 << 20)
    monkeypatch.setattr("ipad_rerank.metrics.retrieval.stable_order", record)
    assert retrieval_map(query, gallery, *labels) == pytest.approx(expected, abs=1e-12)
    assert sum(rows for rows, _ in blocks) == 200
    assert max(rows for rows, _ in blocks) < 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.full((40, 6), np.nan)}, "query has NaN or infinite"),
        ({"gallery": np.full((90, 6), np.inf)}, "gallery has NaN or infinite"),
        ({"gallery": np.ones((90, 5))}, "gallery has 5 dimensions, query has 6"),
        ({"query": np.ones((0, 6))}, "query is empty"),
        ({"query_labels": [1]}, "query_labels has 1 entries"),
        ({"gallery_labels": [1]}, "gallery_labels has 1 entries"),
        ({"query_groups": [1] * 40}, "gallery_groups is missing"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_input(data, change, message):
    (query, gallery), (own, items), _ = data
    arguments = {"query": query, "gallery": gallery, "query_labels": own, "gallery_labels": items} | change
    with pytest.raises(ValueError, match=message):
        retrieval_map(**arguments)
