"""rank: exactness, ties, kinds of input, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import rank


def naive_order(query: np.ndarray, gallery: np.ndarray) -> list[list[int]]:
    rows = []
    for q in query.astype(np.float64):
        cosines = [-2.0 if not g.any() else float(q @ g / np.linalg.norm(q) / np.linalg.norm(g)) for g in gallery]
        rows.append(sorted(range(len(gallery)), key=lambda i: (-round(cosines[i], 9), i)))
    return rows


@pytest.fixture
def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(90, 6)).astype(np.float32)
    gallery[40:60] = gallery[:20]  # ties
    gallery[7] = 0
    return rng.normal(size=(11, 6)).astype(np.float32), gallery


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_matches_loop_reference_with_ties_and_zero_vector_last(vectors, batch_size):
    ranking = rank(*vectors, batch_size=batch_size)
    assert ranking.indices.tolist() == naive_order(*vectors)
    assert (ranking.indices[:, -1] == 7).all()
    assert (ranking.scores[:, -1] == -2).all()


@pytest.mark.parametrize("k", [1, 5, 50])
def test_k_is_a_prefix_of_the_full_ranking(vectors, k):
    np.testing.assert_array_equal(rank(*vectors, k=k).indices, rank(*vectors).indices[:, :k])


def test_small_chunks_agree_with_one_chunk(vectors, monkeypatch):
    whole = rank(*vectors, k=30)
    for module in ("cosine", "memory"):
        monkeypatch.setattr(f"ipad_rerank.search.{module}.work_budget", lambda device: 1)
    np.testing.assert_array_equal(rank(*vectors, k=30).indices, whole.indices)


@pytest.mark.parametrize("order", ["random", "worst last", "best last"])
@pytest.mark.parametrize("k", [1, 9, 70, 700, 1999, 2000])
def test_chunks_of_any_size_keep_ties_in_the_gallerys_order(monkeypatch, order, k):
    rng = np.random.default_rng(0)  # cosines of these are halves, whatever the order of summation
    query, gallery = rng.choice([-1.0, 1.0], size=(7, 4)), rng.choice([-1.0, 1.0], size=(2000, 4))
    gallery[::97] = 0
    if order != "random":
        gallery = gallery[np.argsort(gallery @ query[0] * (1 if order == "best last" else -1), kind="stable")]
    cosine = np.where(gallery.any(1), query @ gallery.T / 4, -2)
    expected = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    for budget in (1, 1 << 15, 1 << 17, 1 << 30):
        for module in ("cosine", "memory"):
            monkeypatch.setattr(f"ipad_rerank.search.{module}.work_budget", lambda device, budget=budget: budget)
        ranking = rank(query.astype(np.float32), gallery, k=k)
        np.testing.assert_array_equal(ranking.indices, expected)
        np.testing.assert_array_equal(ranking.scores, np.take_along_axis(cosine, expected, axis=1))


def test_k_above_the_gallery_gives_the_gallery(vectors):
    assert rank(*vectors, k=1000).k == 90


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_answers_in_kind(vectors, dtype):
    query, gallery = (v.astype(dtype) for v in vectors)
    expected = rank(query, gallery)
    assert isinstance(expected.indices, np.ndarray)
    assert expected.indices.dtype == np.int64
    query.setflags(write=False)
    gallery = np.asfortranarray(np.repeat(gallery, 2, axis=0)[::2])  # read-only and non-contiguous
    np.testing.assert_array_equal(rank(query, gallery).indices, expected.indices)
    tensors = rank(torch.from_numpy(query.copy()), torch.from_numpy(gallery.copy()))
    assert isinstance(tensors.indices, torch.Tensor)
    np.testing.assert_array_equal(tensors.indices.numpy(), expected.indices)
    np.testing.assert_array_equal(rank(query.tolist(), gallery.tolist(), k=3).indices, expected.indices[:, :3])


def test_memory_map(vectors, tmp_path):
    np.save(tmp_path / "gallery.npy", vectors[1])
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    np.testing.assert_array_equal(rank(vectors[0], mapped).indices, rank(*vectors).indices)


def test_invariant_to_scale_even_where_squares_overflow(vectors):
    query, gallery = vectors
    np.testing.assert_array_equal(rank(query * 1e30, gallery * 1e-30).indices, rank(query, gallery).indices)


def test_zero_query_keeps_the_gallerys_order():
    assert rank([[0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).indices.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        ([[1.0, np.nan]], [[1.0, 0.0]], {}, "query has NaN or infinite"),
        ([[1.0, 0.0]], [[1.0, 0.0], [np.inf, 0.0]], {}, r"gallery has NaN or infinite values \(first in row 1\)"),
        ([[1.0, 0.0]], [[1.0, 0.0, 0.0]], {}, "gallery has 3 dimensions, query has 2"),
        (np.zeros((0, 2)), [[1.0, 0.0]], {}, "query is empty"),
        ([[1.0, 0.0]], np.zeros((0, 2)), {}, "gallery is empty"),
        ([1.0, 0.0], [[1.0, 0.0]], {}, r"query must have shape \(N, D\).*vector\[None\]"),
        ([[1.0], [1.0, 2.0]], [[1.0, 0.0]], {}, "query must be a rectangular array"),
        ([[1.0, 0.0]], [[1.0, 0.0]], {"k": 0}, "k must be at least 1, got 0"),
        ([[1.0, 0.0]], [[1.0, 0.0]], {"batch_size": -1}, "batch_size must be at least 1"),
    ],
)
def test_bad_values(query, gallery, options, message):
    with pytest.raises(ValueError, match=message):
        rank(query, gallery, **options)


@pytest.mark.parametrize(("query", "k"), [([["a", "b"]], 1), ([[1.0, 0.0]], 1.5), ([[True, False]], 1)])
def test_bad_types(query, k):
    with pytest.raises(TypeError):
        rank(query, [[1.0, 0.0]], k=k)
