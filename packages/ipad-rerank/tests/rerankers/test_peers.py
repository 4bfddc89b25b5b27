"""What all peers have in common, with and without ``restrict_to``."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ipad_rerank import Ranking, rank
from ipad_rerank.rerankers.protocols import CandidateReranker, GalleryAugmenter, QueryExpander, Reranker
from ipad_rerank.rerankers.registry import RERANKERS

SMALL = {
    "average_query_expansion": {"k": 4},
    "alpha_query_expansion": {"k": 6, "alpha": 2.0},
    "database_augmentation": {"k": 4},
    "k_reciprocal": {"k1": 8, "k2": 3},
    "diffusion": {"k": 8, "query_neighbors": 4, "tolerance": 1e-10},
}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))[rng.integers(0, 6, 100)] + 0.6 * rng.normal(size=(100, 8))
    return vectors[:12], vectors[12:]


def kinds():
    """Each re-ranker, and its restricted form where it looks at the whole gallery otherwise."""
    for name, cls in RERANKERS.items():
        yield name
        if any(field.name == "restrict_to" for field in fields(cls)):
            yield f"{name}-restricted"


@pytest.fixture(params=kinds())
def peer(request):
    name, _, restricted = request.param.partition("-")
    return RERANKERS[name](**SMALL.get(name, {}), **({"restrict_to": 30} if restricted else {}))


def test_protocols(peer):
    assert isinstance(peer, Reranker)
    assert isinstance(peer, CandidateReranker)
    assert isinstance(peer, QueryExpander) == ("QueryExpansion" in type(peer).__name__)
    assert isinstance(peer, GalleryAugmenter) == ("Augmentation" in type(peer).__name__)


def test_gives_a_ranking_of_the_same_size(peer, data):
    ranking = rank(*data, k=50)
    found = peer.rerank(*data, ranking)  # Ranking itself checks that indices are distinct and scores descend
    assert found.indices.shape == (12, 50)
    assert found.indices.max() < 88
    if peer.restrict_to:
        np.testing.assert_array_equal(np.sort(found.indices[:, :30]), np.sort(ranking.indices[:, :30]))
        np.testing.assert_array_equal(found.indices[:, 30:], ranking.indices[:, 30:])
        np.testing.assert_array_equal(found.scores[:, 30:], ranking.scores[:, 30:])


def test_changes_something_and_helps_on_clusters(data):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 300)
    vectors = rng.normal(size=(5, 16))[labels] + 1.3 * rng.normal(size=(300, 16))
    query, gallery, wanted = vectors[:60], vectors[60:], labels[:60, None]
    ranking = rank(query, gallery)
    before = (labels[60:][ranking.indices[:, :40]] == wanted).mean()
    for name, settings in SMALL.items():
        settings = settings | ({"k1": 20} if name == "k_reciprocal" else {})
        better = RERANKERS[name](**settings).rerank(query, gallery, ranking)
        assert (labels[60:][better.indices[:, :40]] == wanted).mean() > before + 0.01, name


def test_answers_in_kind(peer, data):
    expected = peer.rerank(*data, rank(*data, k=40))
    tensors = tuple(torch.from_numpy(part) for part in data)
    found = peer.rerank(*tensors, rank(*tensors, k=40))
    assert isinstance(found.indices, torch.Tensor)
    np.testing.assert_array_equal(found.indices.numpy(), expected.indices)
    lists = tuple(part.tolist() for part in data)
    np.testing.assert_array_equal(peer.rerank(*lists, rank(*lists, k=40)).indices, expected.indices)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_reads_any_array(peer, data, dtype):
    query, gallery = (part.astype(dtype) for part in data)
    expected = peer.rerank(query, gallery, rank(query, gallery, k=40))
    strided = np.asfortranarray(np.repeat(gallery, 2, axis=0))[::2]
    strided.setflags(write=False)
    backwards = query[::-1][::-1]
    found = peer.rerank(backwards, strided, rank(backwards, strided, k=40))
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_batch_size_does_not_matter(peer, data):
    ranking = rank(*data)
    expected = peer.rerank(*data, ranking)
    for batch_size in (1, 5):
        found = peer.rerank(*data, ranking, batch_size=batch_size)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-9)


def test_same_call_same_answer(peer, data):
    first, second = (peer.rerank(*data, rank(*data)) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_scale_of_the_vectors_does_not_matter(peer, data):
    expected = peer.rerank(*data, rank(*data))
    scaled = (7.3 * data[0], data[1] * np.random.default_rng(0).uniform(0.1, 9, size=(88, 1)))
    np.testing.assert_array_equal(peer.rerank(*scaled, rank(*scaled)).indices, expected.indices)


def test_permuting_the_gallery_permutes_the_answer(peer, data):
    query, gallery = data
    shuffle = np.random.default_rng(0).permutation(88)
    expected = peer.rerank(*data, rank(*data))
    found = peer.rerank(query, gallery[shuffle], rank(query, gallery[shuffle]))
    np.testing.assert_array_equal(shuffle[found.indices], expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-9)


def test_duplicates_keep_the_order_of_the_gallery(peer, data):
    query, gallery = data
    doubled = np.concatenate([gallery, gallery[:20]])
    found = peer.rerank(query, doubled, rank(query, doubled))
    places = np.argsort(found.indices, axis=1)
    settled = (places[:, :20] < 30) & (places[:, 88:] < 30) if peer.restrict_to else slice(None)
    if type(peer) in (RERANKERS["average_query_expansion"], RERANKERS["alpha_query_expansion"]):
        assert (places[:, :20] < places[:, 88:])[settled].all()  # others may know the twins apart, by their lists


def test_zero_vectors_of_the_gallery_come_last(peer, data):
    query, gallery = data
    gallery = np.concatenate([np.zeros((3, 8)), gallery])
    found = peer.rerank(query, gallery, rank(query, gallery))
    np.testing.assert_array_equal(found.indices[:, -3:], np.tile([0, 1, 2], (12, 1)))
    assert np.isfinite(found.scores).all()


def test_a_zero_query_is_defined(peer, data):
    query, gallery = data[0].copy(), data[1]
    query[3] = 0
    found = peer.rerank(query, gallery, rank(query, gallery, k=40))
    assert np.isfinite(found.scores).all()
    np.testing.assert_array_equal(found.indices[3], np.arange(40))


def test_identical_vectors_are_no_trouble(peer):
    query, gallery = np.ones((3, 4)), np.ones((20, 4))
    found = peer.rerank(query, gallery, rank(query, gallery, k=10))
    assert np.isfinite(found.scores).all()
    np.testing.assert_array_equal(np.sort(found.indices), np.tile(np.arange(10), (3, 1)))


@pytest.mark.parametrize("gallery", [1, 2, 3])
def test_tiny_galleries(peer, data, gallery):
    found = peer.rerank(data[0], data[1][:gallery], rank(data[0], data[1][:gallery], k=99))
    assert found.indices.shape == (12, gallery)


def test_top_one(peer, data):
    assert peer.rerank(*data, rank(*data, k=1)).indices.shape == (12, 1)


def test_candidates_alone_give_what_a_restricted_rerank_gives(peer, data):
    query, gallery = data
    ranking = rank(query, gallery, k=30)
    restricted = replace(peer, restrict_to=30) if "restrict_to" in vars(peer) else peer
    expected = restricted.rerank(query, gallery, ranking)
    shuffle = np.random.default_rng(0).permutation(30)
    given = ranking.indices[:, shuffle]
    found = peer.rerank_candidates(query, gallery[given], gallery_size=88)
    np.testing.assert_array_equal(np.take_along_axis(given, found.indices, axis=1), expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.full((12, 8), np.nan)}, "query has NaN"),
        ({"gallery": np.full((88, 8), np.inf)}, "gallery has NaN or infinite"),
        ({"gallery": np.ones((88, 7))}, "gallery has 7 dimensions, query has 8"),
        ({"query": np.ones((5, 8))}, "ranking has 12 rows, query has 5"),
        ({"gallery": np.ones((10, 8))}, "gallery has 10 rows only"),
        ({"ranking": Ranking(np.zeros((12, 0), int), np.zeros((12, 0)))}, "ranking has lists of length 0"),
        ({"query": np.ones((0, 8))}, "query is empty"),
    ],
)
def test_bad_arrays(peer, data, change, message):
    arguments = {"query": data[0], "gallery": data[1], "ranking": rank(*data, k=40)} | change
    with pytest.raises(ValueError, match=message):
        peer.rerank(**arguments)


@pytest.mark.parametrize("shape", [(12, 8), (11, 5, 8), (12, 5, 7), (12, 0, 8)])
def test_bad_candidates(peer, data, shape):
    with pytest.raises(ValueError, match="candidates"):
        peer.rerank_candidates(data[0], np.ones(shape))


@pytest.mark.parametrize("value", ["3", None, True])
def test_a_setting_that_is_no_number(value):
    with pytest.raises(TypeError, match=f"alpha must be a number, got {type(value).__name__}"):
        RERANKERS["alpha_query_expansion"](alpha=value)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("value", [0, -2])
def test_bad_restrict_to(name, value):
    with pytest.raises(ValueError, match="restrict_to must be at least 1"):
        RERANKERS[name](restrict_to=value)


def test_works_on_rankings_whose_scores_are_no_cosines(peer, data):
    ranking = rank(*data, k=40)
    other = Ranking(ranking.indices, 100 + ranking.scores)
    np.testing.assert_array_equal(
        peer.rerank(*data, other).indices[:, :30], peer.rerank(*data, ranking).indices[:, :30]
    )
