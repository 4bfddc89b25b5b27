"""Feature Reasoning, alone and in a chain, on every kind of array and on bad ones (what test_peers does for the peers)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import AlphaQueryExpansion, Chain, Ranking, rank


@pytest.fixture(params=["full", "query_only", "two rounds", "chain"])
def reranker(request, shaken):
    if request.param == "two rounds":
        return shaken(n_t=2)
    if request.param == "chain":
        return Chain(AlphaQueryExpansion(k=5), shaken())
    return shaken(variant=request.param)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))[rng.integers(6, size=100)] + 0.6 * rng.normal(size=(100, 8))
    return vectors[:12], vectors[12:]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_read_only_and_not_contiguous(reranker, data, dtype):
    query, gallery = (part.astype(dtype) for part in data)
    ranking = rank(query, gallery, k=40)
    expected = reranker.rerank(query, gallery, ranking)
    assert (expected.indices != ranking.indices).any()
    strided = np.asfortranarray(np.repeat(gallery, 2, axis=0))[::2]
    strided.setflags(write=False)
    backwards = query[::-1][::-1]
    found = reranker.rerank(backwards, strided, ranking)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)
    swapped = reranker.rerank(query.astype(query.dtype.newbyteorder()), gallery, ranking)
    np.testing.assert_array_equal(swapped.indices, expected.indices)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_tensors_give_torch_tensors(reranker, data, dtype):
    tensors = [torch.from_numpy(part).to(dtype) for part in data]
    found = reranker.rerank(*tensors, rank(*tensors, k=40))
    assert isinstance(found.indices, torch.Tensor)
    arrays = [tensor.double().numpy() for tensor in tensors]
    expected = reranker.rerank(*arrays, rank(*arrays, k=40))
    assert (found.indices.numpy() == expected.indices).mean() > 0.95  # but for near-ties of the search
    np.testing.assert_allclose(found.scores.numpy(), expected.scores, atol=1e-4)


def test_lists_and_whole_numbers(reranker, data):
    query, gallery = ((100 * part).round() for part in data)
    expected = reranker.rerank(query, gallery, rank(query, gallery, k=40))
    whole = [part.astype(np.int32) for part in (query, gallery)]
    np.testing.assert_array_equal(reranker.rerank(*whole, rank(*whole, k=40)).indices, expected.indices)
    lists = [part.tolist() for part in (query, gallery)]
    np.testing.assert_array_equal(reranker.rerank(*lists, rank(*lists, k=40)).indices, expected.indices)


def test_scale_of_the_vectors_does_not_matter(reranker, data):
    expected = reranker.rerank(*data, rank(*data, k=40))
    scaled = (7.3 * data[0], data[1] * np.random.default_rng(0).uniform(0.1, 9, size=(88, 1)))
    np.testing.assert_array_equal(reranker.rerank(*scaled, rank(*scaled, k=40)).indices, expected.indices)


def test_same_call_same_answer(reranker, data):
    first, second = (reranker.rerank(*data, rank(*data, k=40)) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_permuting_the_gallery_permutes_the_answer(reranker, data):
    query, gallery = data
    shuffle = np.random.default_rng(0).permutation(88)
    expected = reranker.rerank(query, gallery, rank(query, gallery))
    found = reranker.rerank(query, gallery[shuffle], rank(query, gallery[shuffle]))
    np.testing.assert_array_equal(shuffle[found.indices], expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_duplicates_stay_a_permutation(reranker, data):
    query, gallery = data[0], np.concatenate([data[1][:10]] * 4)
    found = reranker.rerank(query, gallery, rank(query, gallery))
    np.testing.assert_array_equal(np.sort(found.indices, 1), np.tile(np.arange(40), (12, 1)))
    again = reranker.rerank(query, gallery, rank(query, gallery))
    np.testing.assert_array_equal(found.indices, again.indices)


@pytest.mark.parametrize(("rows", "k"), [(88, 1), (88, 2), (1, 1), (2, 2), (3, 99), (88, 999)])
def test_any_length_of_lists(reranker, data, rows, k):
    query, gallery = data[0], data[1][:rows]
    ranking = rank(query, gallery, k=k)
    found = reranker.rerank(query, gallery, ranking)
    assert found.indices.shape == (12, min(k, rows))
    assert np.isfinite(found.scores).all()
    candidates = reranker.rerank_candidates(query, gallery[ranking.indices])
    np.testing.assert_array_equal(np.sort(candidates.indices, 1), np.tile(np.arange(min(k, rows)), (12, 1)))


def test_zero_vectors_come_last(reranker, data):
    query, gallery = data[0].copy(), np.concatenate([np.zeros((3, 8)), data[1][:20]])
    query[4] = 0
    found = reranker.rerank(query, gallery, rank(query, gallery))
    np.testing.assert_array_equal(found.indices[:, -3:], np.tile([0, 1, 2], (12, 1)))
    np.testing.assert_array_equal(found.indices[4], [*range(3, 23), 0, 1, 2])
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.full((12, 8), np.nan)}, "query has NaN"),
        ({"query": np.full((12, 8), -np.inf)}, "query has NaN or infinite"),
        ({"gallery": np.full((88, 8), np.inf)}, "gallery has NaN or infinite"),
        ({"gallery": np.ones((88, 7))}, "gallery has 7 dimensions, query has 8"),
        ({"query": np.ones((5, 8))}, "ranking has 12 rows, query has 5"),
        ({"gallery": np.ones((10, 8))}, "gallery has 10 rows only"),
        ({"ranking": Ranking(np.zeros((12, 0), int), np.zeros((12, 0)))}, "ranking has lists of length 0"),
        ({"query": np.ones((0, 8))}, "query is empty"),
        ({"gallery": np.ones((0, 8))}, "gallery is empty"),
        ({"query": np.ones(8)}, r"query must have shape \(N, D\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"on_unfamiliar": "hope"}, "on_unfamiliar must be one of"),
    ],
)
def test_bad_arrays(reranker, data, change, message):
    arguments = {"query": data[0], "gallery": data[1], "ranking": rank(*data, k=40)} | change
    with pytest.raises(ValueError, match=message):
        reranker.rerank(**arguments)


@pytest.mark.parametrize(
    ("query", "candidates", "message"),
    [
        (np.ones((12, 8)), np.ones((12, 8)), r"candidates must have shape \(Q, k, D\)"),
        (np.ones((12, 8)), np.ones((11, 5, 8)), "candidates"),
        (np.ones((12, 8)), np.ones((12, 5, 7)), "candidates has 7 dimensions, query has 8"),
        (np.ones((12, 8)), np.ones((12, 0, 8)), "candidates is empty"),
        (np.ones((12, 8)), np.full((12, 5, 8), np.nan), "candidates has NaN"),
        (np.full((12, 8), np.inf), np.ones((12, 5, 8)), "query has NaN or infinite"),
        (np.ones((0, 8)), np.ones((0, 5, 8)), "query is empty"),
    ],
)
def test_bad_candidates(reranker, query, candidates, message):
    with pytest.raises(ValueError, match=message):
        reranker.rerank_candidates(query, candidates)


@pytest.mark.parametrize("space", ["feature", "gram"])
@pytest.mark.parametrize("n_t", [1, 2])
def test_permuting_the_nodes_permutes_their_scores(space, n_t, shaken):
    reasoner = shaken(n_t=n_t).double()
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(3, 20, 12, dtype=torch.float64, generator=generator), dim=-1)
    shuffle = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(19, generator=generator)])
    with torch.no_grad():
        expected = reasoner(unit, space=space)[:, shuffle]
        torch.testing.assert_close(reasoner(unit[:, shuffle], space=space), expected, rtol=0, atol=1e-10)


def test_permuting_the_nodes_in_float32_moves_scores_by_near_ties_only(shaken):
    reasoner = shaken(n_r=200, hidden_width=32)
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(4, 200, 16, generator=generator), dim=-1)
    shuffle = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(199, generator=generator)])
    with torch.no_grad():
        difference = (reasoner(unit[:, shuffle]) - reasoner(unit)[:, shuffle]).abs()
        spread = reasoner(unit).std()
    assert difference.mean() < 0.01 * spread
    assert difference.max() < 0.1 * spread
