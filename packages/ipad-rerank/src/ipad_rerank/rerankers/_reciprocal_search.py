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
from ipad_rerank.rerankers._ragged import RaggedRows, segment_sum, spread
from ipad_rerank.rerankers._reciprocal import average_over_neighbors, encode

_TIE_BREAK = 2.0**-30
_ALIGN = 64  # as in rank: equal vectors get equal scores

ByColumn = tuple[Tensor, Tensor, Tensor]
"""The queries' encodings grouped by column: ``start (N + 1,)``, query, value."""


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
    width = max(1, min(num_items, budget // (32 * height + 16 * mean_length)))
    table_height = max(1, min(len(around), budget // (16 * len(around)), budget // (128 * mean_length)))
    table = torch.empty(table_height, len(around), dtype=torch.int32, device=device)
    blocks = [(top, left) for top in range(0, num_queries, height) for left in range(0, num_items, width)]
    for top, left in progress_over(blocks, len(blocks), "k-reciprocal", progress):
        rows = slice(top, min(top + height, num_queries))
        if left == 0:
            by_column = _group_by_column(around, encoded, rows, k2, table)
            best, found = scores.new_empty(rows.stop - top, 0, dtype=torch.float64), indices[rows, :0]
        columns = slice(left, min(left + width, num_items))
        items = slice(num_queries + columns.start, num_queries + columns.stop)
        entries = average_over_neighbors(encoded, around.nearest[items], k2, table)
        overlap = overlap_with_queries(by_column, entries, rows.stop - top, columns.stop - left)
        best, found = _merge(best, found, _blend(around, overlap, rows, items, lambda_value), left, k)
        if columns.stop == num_items:
            order = stable_order(best)
            indices[rows], scores[rows] = found.gather(1, order), best.gather(1, order).to(scores.dtype)
    return indices, scores


def overlap_with_queries(
    by_column: ByColumn, entries: tuple[Tensor, Tensor, Tensor], num_queries: int, width: int
) -> Tensor:
    """``(num_queries, width)`` float64 sums over columns of ``min(query's value, row's value)``.

    Args:
        by_column: See :data:`ByColumn`.
        entries: The gallery rows' encodings: row below ``width``, column, value.
        num_queries: Queries in ``by_column``.
        width: Gallery rows.
    """
    start, query, value = by_column
    row, column, own = entries
    lengths = start[column + 1] - start[column]
    kept = lengths > 0
    row, column, own, lengths = row[kept], column[kept], own[kept], lengths[kept]
    total = torch.zeros(num_queries * width, dtype=torch.float64, device=row.device)
    ends = lengths.cumsum(0)
    budget = max(int(lengths.max()) if len(lengths) else 1, work_budget(row.device) // 64, len(total))
    first, done = 0, 0
    while first < len(row):
        last = int(torch.searchsorted(ends, done + budget, right=True))
        part = slice(first, max(last, first + 1))
        owner, place = spread(start[column[part]], lengths[part])
        smaller = torch.minimum(own[part][owner], value[place])
        total += segment_sum(query[place] * width + row[part][owner], smaller, len(total))
        first = part.stop
        done = int(ends[first - 1])
    return total.view(num_queries, width)


def _group_by_column(around: Neighborhoods, encoded: RaggedRows, rows: slice, k2: int, table: Tensor) -> ByColumn:
    query, column, value = average_over_neighbors(encoded, around.nearest[rows], k2, table)
    order = torch.argsort(column, stable=True)
    counts = torch.bincount(column, minlength=len(around))
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), query[order], value[order]


def _blend(around: Neighborhoods, overlap: Tensor, rows: slice, items: slice, lambda_value: float) -> Tensor:
    """``1 - d*`` in float64; the encodings sum to 1, so the union of two is 2 less their overlap."""
    unit = around.unit[items]
    padded = torch.cat([unit, unit.new_zeros(-len(unit) % _ALIGN, unit.shape[1])])
    cosine = (around.unit[rows] @ padded.T)[:, : len(unit)].clamp_(-1, 1).double()
    score = (1 - lambda_value) * (overlap / (2 - overlap))
    if lambda_value > 0:
        score += lambda_value * (1 - (2 - 2 * cosine) / around.largest[rows, None])
    else:
        score += _TIE_BREAK * cosine
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
