"""Sorting and summing subgraphs: the packed keys against a plain argsort, the sums against loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.rerankers.feature_reasoning.subgraphs import gather_rows, scatter_updates, sort_nodes


def similarities(n: int, dim: int, seed: int = 0, dtype=torch.float32):
    unit = F.normalize(torch.randn(3, n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)
    return unit @ unit.transpose(1, 2)


@pytest.mark.parametrize("dim", [2, 3, 16])  # low dimensions have many strongly negative similarities
@pytest.mark.parametrize("n", [2, 3, 100, 257, 500])
def test_packed_sort_agrees_with_argsort(n, dim):
    similarity = similarities(n, dim)
    similarity[0, 1] = similarity[0, 1].clamp(-1, 1)
    own_first = similarity.clone()
    own_first.diagonal(dim1=1, dim2=2).fill_(9.0)
    expected = own_first.argsort(dim=-1, descending=True, stable=True)
    order = sort_nodes(similarity)
    assert (order.sort(dim=-1).values == torch.arange(n)).all()
    assert (order[:, :, 0] == torch.arange(n)).all()
    differ = order != expected
    gap = (own_first.gather(2, order) - own_first.gather(2, expected)).abs()
    assert gap[differ].max().item() < 1e-6 if differ.any() else True  # only pairs that are as good as equal
    assert differ.double().mean() < 0.05


def test_the_most_negative_similarity_is_last():
    similarity = torch.tensor([[[1.0, -1.0, 0.0], [-1.0, 1.0, -0.5], [0.0, -0.5, 1.0]]])
    assert sort_nodes(similarity).tolist() == [[[0, 2, 1], [1, 2, 0], [2, 0, 1]]]


def test_similarities_just_outside_one_do_not_overflow():
    similarity = torch.tensor([[[1.0, 1.0000005, -1.0000005], [1.0000005, 1.0, 0.0], [-1.0000005, 0.0, 1.0]]])
    assert sort_nodes(similarity).tolist() == [[[0, 1, 2], [1, 0, 2], [2, 1, 0]]]


def test_duplicates_keep_the_lower_node_first_but_self_leads():
    assert sort_nodes(torch.ones(1, 4, 4))[0].tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]]


def test_float64_sorts_exactly():
    similarity = similarities(50, 4, dtype=torch.float64)
    similarity[:, 3, 5] = similarity[:, 3, 6] + 1e-12
    order = sort_nodes(similarity)[0, 3].tolist()
    assert order.index(5) + 1 == order.index(6)


def test_gather_and_sums_match_loops():
    similarity = similarities(6, 3, dtype=torch.float64)
    order = sort_nodes(similarity)
    center, query = gather_rows(similarity, order)
    total = torch.zeros_like(similarity)
    for b in range(3):
        for i in range(6):
            for position in range(6):
                node = order[b, i, position]
                assert center[b, i, position] == similarity[b, i, node]
                assert query[b, i, position] == similarity[b, 0, node]
                total[b, i, node] += 2 * center[b, i, position]
                total[b, 0, node] += 3 * query[b, i, position]
    torch.testing.assert_close(scatter_updates(2 * center, 3 * query, order), total)
