"""Re-rankers one after the other."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ipad_rerank import (
    AlphaQueryExpansion,
    AverageQueryExpansion,
    Chain,
    DatabaseAugmentation,
    FeatureReasoning,
    KReciprocal,
    Ranking,
    UnfamiliarDensityWarning,
    rank,
)
from ipad_rerank.rerankers.feature_reasoning.density import Density, close_share
from ipad_rerank.rerankers.retrieval import Retrieval


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 12))[rng.integers(6, size=100)] + rng.normal(size=(100, 12))
    return vectors[:9].astype(np.float32), vectors[9:].astype(np.float32)


@pytest.fixture
def reasoner():
    reasoner = FeatureReasoning(n_r=20)
    with torch.no_grad():
        reasoner.network.last.weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return reasoner.eval()


def test_each_step_works_on_what_the_one_before_left(data, reasoner):
    query, gallery = data
    expansion, augmentation = AlphaQueryExpansion(k=5), DatabaseAugmentation(k=3)
    found = Chain(expansion, augmentation, reasoner).rerank(query, gallery, rank(query, gallery, k=40))
    moved = expansion.expand(query, gallery, rank(query, gallery, k=40))
    others = augmentation.augment(gallery)
    expected = reasoner.rerank(moved, others, rank(moved, others, k=40))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (found.indices != rank(query, gallery, k=40).indices).any()


def test_an_expansion_moves_towards_the_best_that_the_reasoner_found(data, reasoner):
    query, gallery = data
    ranking, expansion = rank(query, gallery, k=40), AverageQueryExpansion(k=5)
    found = Chain(reasoner, expansion, reasoner).rerank(query, gallery, ranking)
    first = reasoner.rerank(query, gallery, ranking)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in data]
    moved = unit[0] + unit[1][first.indices[:, :5]].sum(1)
    expected = reasoner.rerank(moved, gallery, rank(moved, gallery, k=40))
    assert (found.indices != expected.indices).mean() < 0.01  # where two are a rounding error apart
    other = Chain(expansion, reasoner).rerank(query, gallery, ranking)
    assert (found.indices != other.indices).any()


def test_a_chain_of_one_is_that_one(data):
    ranking = rank(*data, k=30)
    for step in (KReciprocal(k1=8), AlphaQueryExpansion(k=4), DatabaseAugmentation(k=4, restrict_to=20)):
        found, expected = Chain(step).rerank(*data, ranking), step.rerank(*data, ranking)
        np.testing.assert_array_equal(found.indices, expected.indices)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
@pytest.mark.parametrize("reasoner_first", [False, True])
def test_candidates_that_are_the_whole_gallery_give_what_rerank_gives(data, reasoner, batch_size, reasoner_first):
    query, gallery = data
    first = reasoner if reasoner_first else AverageQueryExpansion(k=3)
    chain = Chain(first, AlphaQueryExpansion(k=6), reasoner)
    expected = chain.rerank(query, gallery, rank(query, gallery))
    shuffle = np.random.default_rng(1).permutation(len(gallery))
    candidates = np.broadcast_to(gallery[shuffle], (len(query), *gallery.shape))
    found = chain.rerank_candidates(query, candidates, gallery_size=len(gallery), batch_size=batch_size)
    np.testing.assert_array_equal(shuffle[found.indices], expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("step", [AverageQueryExpansion(k=4), AlphaQueryExpansion(k=4, alpha=2.0)])
def test_candidates_expand_query_by_query(data, step):
    query, gallery = (part.astype(np.float64) for part in data)
    own = np.random.default_rng(0).integers(len(gallery), size=(len(query), 15))
    pools = gallery[own]
    pools[2, 3:9] = 0
    best = Retrieval(query, pools, own_galleries=True).ranking
    moved = step.expand(query, pools, best)
    for row, pool in enumerate(pools):
        single = query[row : row + 1]
        np.testing.assert_allclose(moved[row], step.expand(single, pool, rank(single, pool))[0], atol=1e-12)
    worst = np.tile(np.arange(15)[::-1], (len(query), 1))
    ranking = Ranking(worst, np.zeros(worst.shape))
    moved = step.expand(query, pools, ranking, batch_size=2)
    for row, pool in enumerate(pools):
        one = Ranking(worst[:1], np.zeros((1, 15)))
        np.testing.assert_allclose(moved[row], step.expand(query[row : row + 1], pool, one)[0], atol=1e-12)
    with pytest.raises(ValueError, match="ranking has index 14, gallery has 14 rows only"):
        step.expand(query, pools[:, :14], ranking)


def test_answers_in_kind(data, reasoner):
    chain = Chain(AlphaQueryExpansion(k=5), reasoner)
    expected = chain.rerank(*data, rank(*data, k=40))
    tensors = [torch.from_numpy(part) for part in data]
    found = chain.rerank(*tensors, rank(*tensors, k=40))
    assert isinstance(found.indices, torch.Tensor)
    np.testing.assert_array_equal(found.indices.numpy(), expected.indices)
    candidates = tensors[1].expand(9, -1, -1)
    assert isinstance(chain.rerank_candidates(tensors[0], candidates).indices, torch.Tensor)


def test_unfamiliar_density_reaches_the_reasoner(data, reasoner):
    reasoner.density = Density((1000, 4000), 0.5, (0.0, 1.0))
    chain, ranking = Chain(AlphaQueryExpansion(k=5), reasoner), rank(*data, k=40)
    with pytest.warns(UnfamiliarDensityWarning):
        better = chain.rerank(*data, ranking)
    with pytest.warns(UnfamiliarDensityWarning):
        same = chain.rerank(*data, ranking, on_unfamiliar="fallback")
    np.testing.assert_array_equal(same.indices, AlphaQueryExpansion(k=5).rerank(*data, ranking).indices)
    assert (better.indices != same.indices).any()
    candidates = data[1][ranking.indices]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain.rerank(*data, ranking, on_unfamiliar="ignore")
        chain.rerank_candidates(data[0], candidates, gallery_size=91, on_unfamiliar="ignore")
    with pytest.warns(UnfamiliarDensityWarning):
        chain.rerank_candidates(data[0], candidates, gallery_size=91)


def test_a_reasoner_looks_at_the_density_on_its_first_pass_only(data, reasoner):
    """Moved queries lie closer to their candidates than those of the fit; the gallery is the same."""
    query, gallery = data
    ranking, expansion = rank(query, gallery, k=40), AverageQueryExpansion(k=30)
    alone = Chain(reasoner, expansion, reasoner).rerank(query, gallery, ranking)
    moved = expansion.expand(query, gallery, ranking)
    shares = [close_share(torch.tensor(rank(part, gallery, k=19).scores), 0.5) for part in (query, moved)]
    assert shares[1] > 1.25 * shares[0] + 0.02
    reasoner.density = Density((91, 91), 0.5, (shares[0], shares[0]))
    again = Chain(reasoner, expansion, reasoner)
    for on_unfamiliar in ("warn", "fallback"):  # warnings are errors here
        found = again.rerank(query, gallery, ranking, on_unfamiliar=on_unfamiliar)
        np.testing.assert_array_equal(found.scores, alone.scores)
    candidates = np.broadcast_to(gallery, (len(query), *gallery.shape))
    again.rerank_candidates(query, candidates, gallery_size=91)
    reasoner.density = Density((1000, 4000), 0.5, (0.0, 1.0))
    with pytest.warns(UnfamiliarDensityWarning) as caught:
        fell_back = again.rerank(query, gallery, ranking, on_unfamiliar="fallback")
    assert len(caught) == 1
    with pytest.warns(UnfamiliarDensityWarning):
        engine = again.rerank_candidates(query, candidates, gallery_size=91, on_unfamiliar="fallback")
    np.testing.assert_array_equal(engine.indices[:, :40], fell_back.indices)
    np.testing.assert_array_equal(fell_back.indices, expansion.rerank(query, gallery, ranking).indices)


def test_saved_and_loaded_is_the_same(data, reasoner, tmp_path):
    chain = Chain(AlphaQueryExpansion(k=5, alpha=1.5), DatabaseAugmentation(k=2), reasoner)
    chain.save_pretrained(tmp_path / "chain")
    loaded = Chain.from_pretrained(tmp_path / "chain")
    assert loaded.rerankers[:2] == chain.rerankers[:2]
    ranking = rank(*data, k=40)
    np.testing.assert_array_equal(loaded.rerank(*data, ranking).scores, chain.rerank(*data, ranking).scores)
    Chain(chain, reasoner).save_pretrained(tmp_path / "chain")
    nested = Chain.from_pretrained(tmp_path / "chain")
    expected = Chain(chain, reasoner).rerank(*data, ranking)
    np.testing.assert_array_equal(nested.rerank(*data, ranking).scores, expected.scores)


def test_on_candidates_an_expansion_at_the_end_moves_towards_what_the_reasoner_found(data, reasoner):
    query, gallery = data
    candidates = gallery[rank(query, gallery, k=40).indices]
    first = reasoner.rerank_candidates(query, candidates)
    moved = query / np.linalg.norm(query, axis=1, keepdims=True)
    unit = candidates / np.linalg.norm(candidates, axis=2, keepdims=True)
    moved = moved + np.take_along_axis(unit, first.indices[:, :5, None], axis=1).sum(1)
    found = Chain(reasoner, AverageQueryExpansion(k=5)).rerank_candidates(query, candidates)
    expected = np.argsort(-np.einsum("qd,qkd->qk", moved, unit), axis=1)
    np.testing.assert_array_equal(found.indices, expected)


def test_bad_input(data, reasoner, tmp_path):
    chain = Chain(AlphaQueryExpansion(k=5), reasoner)
    with pytest.raises(ValueError, match="candidates has 9 rows, query has 3"):
        chain.rerank_candidates(data[0][:3], np.ones((9, 5, 12)))
    with pytest.raises(ValueError, match="candidates has 5 dimensions, query has 12"):
        chain.rerank_candidates(data[0], np.ones((9, 5, 5)))
    with pytest.raises(TypeError, match="without the gallery, which DatabaseAugmentation"):
        Chain(DatabaseAugmentation(), reasoner).rerank_candidates(data[0], np.ones((9, 5, 12)))
    with pytest.raises(TypeError, match="query expansion over the whole gallery, got DatabaseAugmentation"):
        Chain(DatabaseAugmentation(), reasoner).fit(np.ones((300, 4)), np.arange(300))

    class Stranger:
        def rerank(self, query, gallery, ranking):
            return ranking

    with pytest.raises(TypeError, match="cannot save"):
        Chain(Stranger()).save_pretrained(tmp_path / "c")
    assert not (tmp_path / "c").exists()
