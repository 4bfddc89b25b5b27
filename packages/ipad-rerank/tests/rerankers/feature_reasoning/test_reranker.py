"""Feature Reasoning as users call it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import FeatureReasoning, Ranking, rank


def test_untrained_is_the_identity(search):
    better = FeatureReasoning(n_r=30, n_t=3).rerank(*search)
    np.testing.assert_array_equal(better.indices, search[2].indices)
    np.testing.assert_array_equal(better.scores, search[2].scores)


@pytest.mark.parametrize("variant", ["full", "query_only"])
def test_head_is_permuted_and_tail_untouched(search, variant, shaken):
    better = shaken(variant=variant).rerank(*search)
    before = search[2]
    assert (better.indices != before.indices).any()
    np.testing.assert_array_equal(np.sort(better.indices[:, :19], 1), np.sort(before.indices[:, :19], 1))
    np.testing.assert_array_equal(better.indices[:, 19:], before.indices[:, 19:])
    np.testing.assert_array_equal(better.scores[:, 19:], before.scores[:, 19:])
    assert (np.diff(better.scores, axis=1) <= 0).all()


def test_repeats_and_does_not_depend_on_the_batch(search, shaken):
    reasoner = shaken()
    better = reasoner.rerank(*search)
    np.testing.assert_array_equal(better.scores, reasoner.rerank(*search).scores)
    for batch_size in (1, 5):
        other = reasoner.rerank(*search, batch_size=batch_size)
        np.testing.assert_allclose(other.scores, better.scores, atol=1e-4)


def test_rerank_leaves_no_gradient_and_answers_in_kind(search, shaken):
    query, gallery, _ = search
    tensors = (torch.from_numpy(query), torch.from_numpy(gallery))
    better = shaken().rerank(*tensors, rank(*tensors, k=60))
    assert isinstance(better.indices, torch.Tensor)
    assert not better.scores.requires_grad
    np.testing.assert_array_equal(better.indices.numpy(), shaken().rerank(*search).indices)
    half = shaken().rerank(query.astype(np.float64), gallery[:, ::-1][:, ::-1], search[2])
    np.testing.assert_allclose(half.scores, better.scores, atol=1e-5)


def test_memory_mapped_gallery_gives_the_same(search, tmp_path, monkeypatch, shaken):
    query, gallery, ranking = search
    np.save(tmp_path / "g.npy", gallery)
    expected = shaken().rerank(query, gallery, ranking).indices
    monkeypatch.setattr("ipad_rerank.search.vectors.work_budget", lambda device: 0)  # no copy in memory
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    np.testing.assert_array_equal(shaken().rerank(query, mapped, ranking).indices, expected)


def test_candidates_in_any_order_agree_with_rerank(search, shaken):
    query, gallery, ranking = search
    reasoner = shaken()
    expected = reasoner.rerank(query, gallery, ranking).indices
    shuffle = np.random.default_rng(0).permutation(60)
    ids = ranking.indices[:, shuffle]
    found = reasoner.rerank_candidates(query, gallery[ids], gallery_size=150)
    np.testing.assert_array_equal(np.take_along_axis(ids, found.indices, 1), expected)


def test_n_r_is_limited_to_half_the_gallery(search, shaken):
    query, gallery, _ = search
    reasoner = shaken(n_r=500)
    ranking = rank(query, gallery[:24])
    better = reasoner.rerank(query, gallery[:24], ranking)
    np.testing.assert_array_equal(better.indices[:, 11:], ranking.indices[:, 11:])
    for count in (1, 2, 3):
        assert reasoner.rerank(query, gallery[:count], rank(query, gallery[:count])).k == count


def test_zero_vectors_rank_last_and_a_zero_query_keeps_its_order(search, shaken):
    query, gallery, _ = (array.copy() if isinstance(array, np.ndarray) else array for array in search)
    query[3] = 0
    gallery[[4, 9]] = 0
    small = gallery[:40]
    better = shaken().rerank_candidates(query, np.broadcast_to(small[:19], (13, 19, 12)))
    assert np.isfinite(better.scores).all()
    assert (np.sort(better.indices[:, -2:], 1) == [4, 9]).all()
    assert better.indices[3].tolist() == [i for i in range(19) if i not in (4, 9)] + [4, 9]


def test_identical_vectors_are_stable(shaken):
    better = shaken().rerank_candidates(np.ones((1, 8)), np.ones((1, 19, 8)))
    assert better.indices.tolist() == [list(range(19))]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gallery": np.full((150, 12), np.nan)}, ValueError, "gallery has NaN"),
        ({"gallery": np.ones((150, 5))}, ValueError, "gallery has 5 dimensions"),
        ({"query": np.ones((4, 12))}, ValueError, "ranking has 13 rows, query has 4"),
        ({"gallery": np.ones((20, 12))}, ValueError, "gallery has 20 rows only"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"on_unfamiliar": "hope"}, ValueError, "on_unfamiliar must be one of warn, fallback, ignore"),
    ],
)
def test_bad_input(search, change, error, message, shaken):
    arguments = dict(zip(("query", "gallery", "ranking"), search, strict=True)) | change
    with pytest.raises(error, match=message):
        shaken().rerank(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequences": 0}, "sequences"),
        ({"n_r": 1}, "n_r"),
        ({"n_t": 0}, "n_t"),
        ({"variant": "lite"}, "variant"),
        ({"step_size": 0.0}, "step_size"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureReasoning(**options)


def test_ranking_longer_than_a_gallery_of_ties_stays_a_permutation(shaken):
    gallery = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    ranking = rank(gallery[:5], gallery)
    better = shaken().rerank(gallery[:5], gallery, ranking)
    assert isinstance(better, Ranking)
    np.testing.assert_array_equal(np.sort(better.indices, 1), np.tile(np.arange(60), (5, 1)))


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(search, shaken):
    tensors = [torch.from_numpy(array).cuda() for array in search[:2]]
    better = shaken().rerank(*tensors, rank(*tensors, k=60))
    assert better.indices.is_cuda
    np.testing.assert_allclose(better.scores.cpu(), shaken().rerank(*search).scores, atol=1e-4)
