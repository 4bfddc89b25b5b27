import numpy as np
import pytest
import torch

from ipad_rerank import (
    AverageQueryExpansion,
    Chain,
    DatabaseAugmentation,
    FeatureReasoning,
    Guard,
    UnfamiliarDensityWarning,
    rank,
)
from ipad_rerank.adapters import FaissSearch, Hit
from ipad_rerank.rerankers.feature_reasoning.density import Density
from ipad_rerank.rerankers.k_reciprocal.reranker import KReciprocal
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion

faiss = pytest.importorskip("faiss")

RERANKER = AlphaQueryExpansion(k=5, restrict_to=20)


@pytest.fixture
def vectors():
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(kind, vectors, ids=None):
    index = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors) if ids is None else index.add_with_ids(vectors, ids)
    return index


@pytest.mark.parametrize("kind", ["Flat", "IDMap,Flat", "IDMap2,Flat"])
def test_ids_and_payload_come_in_the_order_of_the_reranker(vectors, kind):
    ids = 1000 + 7 * np.arange(300) if "IDMap" in kind else None
    names = {int(i): f"photo {i}" for i in (np.arange(300) if ids is None else ids)}
    found = FaissSearch(build(kind, vectors, ids), payload=names)(vectors[:4], k=20, reranker=RERANKER)
    ranking = rank(vectors[:4], vectors, k=20)
    expected = RERANKER.rerank(vectors[:4], vectors, ranking)
    assert not np.array_equal(expected.indices, ranking.indices)
    for hits, rows, scores in zip(found, expected.indices, expected.scores, strict=True):
        wanted = rows if ids is None else ids[rows]
        assert [hit.id for hit in hits] == wanted.tolist()
        assert [hit.payload for hit in hits] == [f"photo {i}" for i in wanted]
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)


@pytest.mark.parametrize("reranker", [FeatureReasoning(n_r=10), KReciprocal(k1=5, k2=2)], ids=["fr", "k-reciprocal"])
def test_other_rerankers(vectors, reranker):
    found = FaissSearch(build("Flat", vectors))(torch.from_numpy(vectors[:3]), k=20, reranker=reranker, limit=6)
    assert [len(hits) for hits in found] == [6, 6, 6]
    assert [hits[0].id for hits in found] == [0, 1, 2]
    assert isinstance(found[0][0], Hit)


def test_a_chain_knows_the_size_of_the_collection(vectors):
    reasoner = FeatureReasoning(n_r=10)
    torch.nn.init.normal_(reasoner.network.last.weight, generator=torch.Generator().manual_seed(0))
    chain = Chain(AlphaQueryExpansion(k=5), reasoner)
    search = FaissSearch(build("Flat", vectors))
    expected = chain.rerank(vectors[:3], vectors, rank(vectors[:3], vectors, k=20))
    found = search(vectors[:3], 20, chain)
    assert [[hit.id for hit in hits] for hits in found] == expected.indices.tolist()
    reasoner.density = Density((1000, 4000), 0.5, (0.0, 1.0))
    with pytest.warns(UnfamiliarDensityWarning, match="the gallery has 300 rows"):
        search(vectors[:3], 20, chain)


def test_fewer_hits_than_k(vectors):
    assert [len(hits) for hits in FaissSearch(build("Flat", vectors))(vectors[:2], 999, RERANKER)] == [300, 300]
    lists = FaissSearch(build("IVF8,Flat", vectors))(vectors[:9], 290, RERANKER)  # probes one cell of eight
    assert len({len(hits) for hits in lists}) > 1
    for row, hits in enumerate(lists):
        assert hits[0].id == row
        assert len({hit.id for hit in hits}) == len(hits)
    assert FaissSearch(faiss.IndexFlatIP(16))(vectors[:2], 5, RERANKER) == [[], []]


@pytest.mark.parametrize("as_function", [False, True])
def test_vectors_of_the_caller_replace_reconstruction(vectors, as_function):
    index = build("IVF1,PQ4x4", vectors)
    own = (lambda ids: vectors[ids]) if as_function else vectors
    found = FaissSearch(index, vectors=own)(vectors[:2], k=300, reranker=KReciprocal(k1=4, k2=1, lambda_value=1.0))
    expected = rank(vectors[:2], vectors)  # the distance alone: the exact order comes back, whatever was compressed
    assert [[hit.id for hit in hits] for hits in found] == expected.indices.tolist()


def test_bad_input(vectors):
    search = FaissSearch(build("Flat", vectors))
    with pytest.raises(ValueError, match="query has 8 dimensions, the engine's collection has 16"):
        search(np.ones((2, 8)), 5, RERANKER)
    with pytest.raises(ValueError, match="query has NaN"):
        search(np.full((2, 16), np.nan), 5, RERANKER)
    with pytest.raises(ValueError, match="k must be at least 1"):
        search(vectors[:2], 0, RERANKER)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        search(vectors[:2], 5, RERANKER, limit=0)
    with pytest.raises(TypeError, match="k must be a whole number"):
        search(vectors[:2], 5.0, RERANKER)
    with pytest.raises(ValueError, match="query is empty"):
        search(vectors[:0], 5, RERANKER)
    with pytest.raises(TypeError, match="reranker must have a method rerank_candidates"):
        search(vectors[:2], 5, rank)
    with pytest.raises(TypeError, match=r"index must be a faiss\.Index"):
        FaissSearch(vectors)


def test_an_index_that_cannot_give_vectors_back(vectors):
    shard = faiss.IndexFlatIP(16)
    index = faiss.IndexShards(16)
    index.add_shard(shard)
    index.add(vectors)
    with pytest.raises(ValueError, match="pass them as vectors"):
        FaissSearch(index)(vectors[:2], 5, RERANKER)
    assert len(FaissSearch(index, vectors=vectors)(vectors[:2], 5, RERANKER)[0]) == 5


def shaken(n_r: int = 10) -> FeatureReasoning:
    reasoner = FeatureReasoning(n_r=n_r)
    torch.nn.init.normal_(reasoner.network.last.weight, generator=torch.Generator().manual_seed(0))
    return reasoner


@pytest.mark.parametrize("ends_in", ["expansion", "reasoner", "expansions", "alone"])
def test_a_chain_that_searches_again_gives_what_it_gives_over_the_gallery(vectors, ends_in):
    reasoner, expansion = shaken(), AverageQueryExpansion(k=5)
    chain = {
        "reasoner": Chain(reasoner, expansion, reasoner),
        "expansion": Chain(reasoner, expansion),
        "expansions": Chain(expansion, reasoner, AverageQueryExpansion(k=2), expansion),
        "alone": expansion,
    }[ends_in]
    query = vectors[:5] + 0.1 * vectors[5:10]
    found = FaissSearch(build("Flat", vectors))(query, 20, chain)
    expected = chain.rerank(query, vectors, rank(query, vectors, k=20))
    assert [[hit.id for hit in hits] for hits in found] == expected.indices.tolist()
    fetched = rank(query, vectors, k=20).indices
    assert any(set(row) != set(first) for row, first in zip(expected.indices, fetched, strict=True)), (
        "it fetches others"
    )


class GalleryOnly:
    def rerank(self, query, gallery, ranking):
        return ranking


def test_what_an_engine_cannot_serve(vectors):
    search = FaissSearch(build("Flat", vectors))
    with pytest.raises(TypeError, match="without the gallery, which DatabaseAugmentation"):
        search(vectors[:2], 5, Chain(DatabaseAugmentation(k=2), shaken()))
    with pytest.raises(TypeError, match=r"without the gallery, which <.*GalleryOnly"):
        search(vectors[:2], 5, Chain(GalleryOnly(), shaken()))
    last = Chain(AverageQueryExpansion(k=2), DatabaseAugmentation(k=2))
    expected = last.rerank_candidates(vectors[:2], np.broadcast_to(vectors, (2, *vectors.shape)))
    found = search(vectors[:2], len(vectors), last, limit=10)
    assert [[hit.id for hit in hits] for hits in found] == expected.indices[:, :10].tolist()
    with pytest.raises(TypeError, match="what is inside it searches again; use that by itself"):
        search(vectors[:2], 5, Guard(Chain(shaken(), AverageQueryExpansion(k=2))))
    assert len(search(vectors[:2], 5, Guard(shaken()))[0]) == 5
    with pytest.raises(ValueError, match="payload has nothing for id"):
        FaissSearch(build("Flat", vectors), payload={0: "a"})(vectors[:2], 5, RERANKER)


def test_options_pass_through(vectors):
    reasoner = shaken()
    reasoner.density = Density((1000, 4000), 0.5, (0.0, 1.0))
    search = FaissSearch(build("IVF8,Flat", vectors))
    search(vectors[:3], 20, reasoner, on_unfamiliar="ignore", progress=False)  # warnings are errors here
    with pytest.warns(UnfamiliarDensityWarning):
        kept = search(vectors[:3], 5, reasoner, on_unfamiliar="fallback")
    assert kept[0][0].id == 0
    few = search(vectors[:3], 290, RERANKER)
    all_cells = search(vectors[:3], 290, RERANKER, params=faiss.SearchParametersIVF(nprobe=8))
    assert len(few[0]) < len(all_cells[0]) == 290
