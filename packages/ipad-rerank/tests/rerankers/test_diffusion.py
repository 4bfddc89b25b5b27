import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipad_rerank import GraphDiffusion, rank
from ipad_rerank.rerankers.diffusion import conjugate_gradient, dense_affinity, sparse_affinity
from ipad_rerank.search.cosine import gallery_neighbors


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def dense_diffusion(query, gallery, k, alpha, query_neighbors, gamma):
    """f (Q, G) by a full matrix and a direct solver; 0 where nothing arrives."""
    query, gallery = unit(query), unit(gallery)
    count = len(gallery)
    cosine = gallery @ gallery.T
    listed = np.zeros((count, count), dtype=bool)
    for i in range(count):
        others = [j for j in np.argsort(-cosine[i], kind="stable") if j != i][:k]
        listed[i, others] = True
    weights = np.where(listed & listed.T, np.maximum(cosine, 0) ** gamma, 0)
    degree = weights.sum(axis=1)
    scale = 1 / np.sqrt(np.where(degree > 0, degree, 1))
    weights = scale[:, None] * weights * scale
    source = np.zeros((len(query), count))
    for i, row in enumerate(query @ gallery.T):
        best = np.argsort(-row, kind="stable")[:query_neighbors]
        source[i, best] = np.maximum(row[best], 0) ** gamma
    return np.linalg.solve(np.eye(count) - alpha * weights, source.T).T


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))[rng.integers(0, 6, 90)] + 0.7 * rng.normal(size=(90, 8))
    return vectors[:12], vectors[12:]


@pytest.mark.parametrize("restrict_to", [None, 78])
@pytest.mark.parametrize(
    ("k", "alpha", "query_neighbors", "gamma"),
    [(10, 0.9, 5, 3.0), (3, 0.99, 1, 1.0), (500, 0.5, 500, 3.0), (10, 0.0, 5, 3.0)],
)
def test_matches_a_direct_solver(data, k, alpha, query_neighbors, gamma, restrict_to):
    flow = dense_diffusion(*data, k, alpha, query_neighbors, gamma)
    cosine = unit(data[0]) @ unit(data[1]).T
    expected = np.where(flow > 1e-13, flow, (cosine - 1) / 2)
    diffusion = GraphDiffusion(k, alpha, query_neighbors, gamma, restrict_to, tolerance=1e-13)
    found = diffusion.rerank(*data, rank(*data))
    actual = np.empty_like(expected)
    np.put_along_axis(actual, found.indices, found.scores, axis=1)
    np.testing.assert_allclose(actual, expected, atol=1e-10)


def test_default_tolerance_is_enough_for_the_order(data):
    exact = GraphDiffusion(10, 0.99, 5, tolerance=1e-13).rerank(*data, rank(*data))
    usual = GraphDiffusion(10, 0.99, 5).rerank(*data, rank(*data))
    assert (usual.indices[:, :20] == exact.indices[:, :20]).mean() > 0.97


def test_flow_crosses_a_chain_that_cosine_does_not():
    angles = np.linspace(0, np.pi * 0.9, 30)
    chain = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    stranger = np.array([[np.cos(1.0), 0, np.sin(1.0)]])  # closer to the query than the chain's end, on no path
    gallery = np.concatenate([chain, stranger])
    query = np.array([[1.0, 0.0, 0.0]])
    before = rank(query, gallery)
    after = GraphDiffusion(k=3, alpha=0.99, query_neighbors=2).rerank(query, gallery, before)
    place = {name: list(ranking.indices[0]) for name, ranking in (("before", before), ("after", after))}
    assert place["before"].index(30) < place["before"].index(29)
    assert place["after"].index(30) > place["after"].index(29)


def test_unreached_rows_follow_by_cosine(data):
    found = GraphDiffusion(k=2, alpha=0.5, query_neighbors=1).rerank(*data, rank(*data))
    cosine = unit(data[0]) @ unit(data[1]).T
    for row, scores, own in zip(found.indices, found.scores, cosine, strict=True):
        rest = row[scores <= 0]
        assert len(rest) > 10
        assert (np.diff(own[rest]) <= 1e-12).all()


def test_neighbors_given_are_used(data):
    ranking, diffusion = rank(*data), GraphDiffusion(k=5)
    found = diffusion.rerank(*data, ranking, neighbors=gallery_neighbors(data[1], 30))
    np.testing.assert_array_equal(found.indices, diffusion.rerank(*data, ranking).indices)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"alpha": 1.0},
        {"alpha": -0.1},
        {"query_neighbors": 0},
        {"gamma": -1.0},
        {"tolerance": 1.0},
        {"max_iterations": 0},
    ],
)
def test_bad_parameters(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GraphDiffusion(**options)


def test_sparse_and_dense_affinity_agree():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))[rng.integers(0, 6, 78)] + 0.7 * rng.normal(size=(78, 8))
    gallery = F.normalize(torch.from_numpy(vectors), dim=1)
    cosine = gallery @ gallery.T
    nearest, weights = gallery_neighbors(gallery, 6).tensors()
    flow = torch.randn(len(gallery), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sparse = sparse_affinity(nearest, weights.clamp_min(0))(flow)
    dense = dense_affinity(cosine.clamp_min(0)[None], nearest[None])(flow[None])[0]
    torch.testing.assert_close(sparse, dense)


def test_conjugate_gradient_solves_each_column_alone():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, dtype=torch.float64, generator=generator)
    matrix = root @ root.T + torch.eye(20, dtype=torch.float64)
    right = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    right[:, 2] = 0
    found = conjugate_gradient(lambda x: matrix @ x, right, 1e-12, 500)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))
    alone = conjugate_gradient(lambda x: matrix @ x, right[:, :1], 1e-2, 500)
    together = conjugate_gradient(lambda x: matrix @ x, right, 1e-2, 500)
    torch.testing.assert_close(together[:, :1], alone)
