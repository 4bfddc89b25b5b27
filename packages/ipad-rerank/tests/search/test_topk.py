"""The fast orders, against a stable sort."""

import pytest
import torch

from ipad_rerank.search.topk import stable_order, stable_topk, topk_above


@pytest.fixture(params=[0, 1, 3, None], ids=lambda decimals: f"decimals={decimals}")
def scores(request):
    values = torch.randn(40, 5003, generator=torch.Generator().manual_seed(0))
    return values if request.param is None else values.round(decimals=request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stable_order_is_a_stable_descending_sort(scores, dtype):
    scores = scores.to(dtype)
    expected = torch.sort(scores, dim=1, descending=True, stable=True).indices
    torch.testing.assert_close(stable_order(scores), expected, rtol=0, atol=0)


def test_stable_order_of_extremes():
    scores = torch.tensor([[0.0, -0.0, float("inf"), -1e-45, 1e-45, float("-inf"), -2.0, 0.0, 3e38, -3e38]])
    expected = torch.sort(scores, dim=1, descending=True, stable=True).indices
    torch.testing.assert_close(stable_order(scores), expected, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 5, 19, 5003, 9999])
def test_stable_topk_is_the_start_of_a_stable_sort(scores, k):
    values, columns = torch.sort(scores, dim=1, descending=True, stable=True)
    found, where = stable_topk(scores, k)
    torch.testing.assert_close(where, columns[:, :k], rtol=0, atol=0)
    torch.testing.assert_close(found, values[:, :k], rtol=0, atol=0)


def test_stable_topk_of_equal_scores_keeps_the_first():
    assert stable_topk(torch.zeros(2, 5000), 4)[1].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.6, 1.0])
def test_topk_above_loses_nothing_that_is_above(scores, share):
    k = 30
    rank_of_floor = min(int(share * scores.shape[1]), scores.shape[1] - 1)
    floor = scores.sort(dim=1, descending=True).values[:, rank_of_floor, None]
    values, columns = topk_above(scores, floor, k)
    assert values.shape[1] < scores.shape[1]
    for row, lowest, found, where in zip(scores, floor, values, columns, strict=True):
        real = found > -torch.inf
        torch.testing.assert_close(row[where[real]], found[real], rtol=0, atol=0)
        order = torch.sort(row, descending=True, stable=True).indices
        wanted = order[row[order] > lowest][:k]
        merged = where[real][torch.sort(found[real], descending=True, stable=True).indices]
        merged = merged[row[merged] > lowest][:k]
        torch.testing.assert_close(merged, wanted, rtol=0, atol=0)


def test_stable_topk_breaks_ties_at_the_edge_by_column():
    scores = torch.tensor([[1.0, 2.0, 1.0, 1.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, -1.0]])
    values, columns = stable_topk(scores, 4)
    assert columns.tolist() == [[4, 1, 0, 2], [0, 1, 2, 3]]
    assert values.tolist() == [[3.0, 2.0, 1.0, 1.0], [0.0] * 4]
