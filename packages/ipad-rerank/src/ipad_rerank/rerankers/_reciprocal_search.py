"""Search by Jaccard distance of k-reciprocal encodings (Zhong et al. 2017, Eq. 9 to 12), gallery block by block.

No more is held than the encodings, one block of scores and the lists so far: never a gallery-by-gallery matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank._arrays import ZERO_VECTOR_SCORE
from ipad_rerank._memory import work_budget
from ipad_rerank._progress import progress_over
from ipad_rerank._stable_order import stable_order
from ipad_rerank.ranking import stable_topk
from ipad_rerank.rerankers._neighborhoods import Neighborhoods
from ipad_rerank.rerankers._overlap import QueryEncodings, overlap
from ipad_rerank.rerankers._ragged import RaggedRows
from ipad_rerank.rerankers._reciprocal import average_over_neighbors, encode

_TIE_BREAK = 2.0**-30
_BLOCK = 1 << 22  # larger blocks of scores are slower: their memory is mapped anew each time
_ALIGN = 64  # as in rank: equal vectors get equal scores


def search_reciprocal(
    around: Neighborhoods,
    num_queries: int,
    k1: int,
    k2: int,
    lambda_value: float,
    k: int,
    *,
    encoded: RaggedRows | None = None,
    progress: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """``indices, scores (Q, k)``, where the first ``num_queries`` of ``around`` are the queries.

    ``encoded`` of the same k1 may be given, to be used again with another k2.
    """
    encoded = encode(around, k1) if encoded is None else encoded
    num_items, device = len(around) - num_queries, around.unit.device
    indices = torch.empty(num_queries, k, dtype=torch.int64, device=device)
    scores = torch.empty(num_queries, k, dtype=around.unit.dtype, device=device)
    budget = work_budget(device)
    height = max(1, min(num_queries, 4096, budget // (32 * k)))
    mean_length = k2 * (len(encoded.columns) // len(around) + 1)
    width = max(1, min(num_items, max(_BLOCK // height, 1024), budget // (32 * height + 16 * mean_length)))
    table_height = max(1, min(len(around), budget // (16 * len(around)), budget // (128 * mean_length)))
    table = torch.empty(table_height, len(around), dtype=torch.int32, device=device)
    blocks = [(top, left) for top in range(0, num_queries, height) for left in range(0, num_items, width)]
    for top, left in progress_over(blocks, len(blocks), "k-reciprocal", progress):
        rows = slice(top, min(top + height, num_queries))
        if left == 0:
            own = average_over_neighbors(encoded, around.nearest[rows], k2, table)
            queries = QueryEncodings.of(own, rows.stop - top, len(around))
            best, found = scores.new_empty(rows.stop - top, 0, dtype=torch.float64), indices[rows, :0]
        columns = slice(left, min(left + width, num_items))
        items = slice(num_queries + columns.start, num_queries + columns.stop)
        order = _likeness_order(encoded, torch.arange(items.start, items.stop, device=device))
        entries = average_over_neighbors(encoded, around.nearest[items][order], k2, table)
        shared = overlap(queries, entries, len(order))[torch.argsort(order)].T.contiguous()
        best, found = _merge(best, found, _blend(around, shared, rows, items, lambda_value), left, k)
        if columns.stop == num_items:
            order = stable_order(best)
            indices[rows], scores[rows] = found.gather(1, order), best.gather(1, order).to(scores.dtype)
    return indices, scores


def _likeness_order(encoded: RaggedRows, rows: Tensor) -> Tensor:
    """An order of ``rows`` in which rows with many columns in common tend to stand together (a min-hash)."""
    owner, columns, _ = encoded.take(rows)
    hashed = (columns.long() * 2654435761) % (1 << 32)
    least = torch.full((len(rows),), 1 << 32, device=rows.device).scatter_reduce_(0, owner, hashed, "amin")
    return torch.argsort(least, stable=True)


def _blend(around: Neighborhoods, shared: Tensor, rows: slice, items: slice, lambda_value: float) -> Tensor:
    """``1 - d*`` in float64, in place of ``shared``; the encodings sum to 1, so the union of two is 2 less their overlap."""
    unit = around.unit[items]
    padded = torch.cat([unit, unit.new_zeros(-len(unit) % _ALIGN, unit.shape[1])])
    cosine = (around.unit[rows] @ padded.T)[:, : len(unit)].clamp_(-1, 1).double()
    score = shared.div_(2 - shared).mul_(1 - lambda_value)
    if lambda_value > 0:  # 1 - (2 - 2 cos) / largest, in two steps without further blocks
        slope = 2 * lambda_value / around.largest[rows, None].double()
        score.addcmul_(cosine, slope).add_(lambda_value - slope)
    else:
        score.add_(cosine, alpha=_TIE_BREAK)
    score[:, around.zero[items]] = ZERO_VECTOR_SCORE
    return score


def _merge(best: Tensor, found: Tensor, block: Tensor, left: int, k: int) -> tuple[Tensor, Tensor]:
    """The lists so far, extended by a block of later gallery rows; cut to k, unless all are kept."""
    if left + block.shape[1] <= k:
        columns = torch.arange(left, left + block.shape[1], device=block.device).expand(block.shape)
        return torch.cat([best, block], 1), torch.cat([found, columns], 1)
    block, columns = stable_topk(block, k)
    best, kept = stable_topk(torch.cat([best, block], 1), k)
    return best, torch.cat([found, columns + left], 1).gather(1, kept)
