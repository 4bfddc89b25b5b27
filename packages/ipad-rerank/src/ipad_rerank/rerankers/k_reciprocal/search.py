"""Search by Jaccard distance of k-reciprocal encodings (Zhong et al. 2017, Eq. 9 to 12), gallery block by block.

No more is held than the encodings, one block of scores and the lists so far: never a gallery-by-gallery matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ipad_rerank.rerankers.k_reciprocal.encoding import average_over_neighbors
from ipad_rerank.rerankers.k_reciprocal.neighborhoods import Neighborhoods, block_budget
from ipad_rerank.rerankers.k_reciprocal.overlap import QueryEncodings, overlap
from ipad_rerank.rerankers.k_reciprocal.sparse_rows import RaggedRows
from ipad_rerank.search.cosine import aligned
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.topk import Best, merged_topk
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE

_TIE_BREAK = 2.0**-30
_BLOCK = 1 << 22  # larger blocks of scores are slower: their memory is mapped anew each time


def search_reciprocal(
    around: Neighborhoods,
    num_queries: int,
    encoded: RaggedRows,
    k2: int,
    lambda_values: Sequence[float],
    k: int,
    progress: bool | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """``indices, scores (Q, k)`` for each of ``lambda_values``; the overlaps are computed once for all.

    The first ``num_queries`` of ``around`` are the queries; ``encoded`` are the encodings of all.
    """
    indices = torch.empty(len(lambda_values), num_queries, k, dtype=torch.int64, device=around.unit.device)
    values = torch.empty(indices.shape, dtype=around.unit.dtype, device=around.unit.device)
    best: list[Best | None] = []
    for rows, items, shared in _blocks(around, num_queries, encoded, k2, k, progress):
        left = items.start - num_queries
        best = best if left else [None] * len(lambda_values)
        scores = (_blend(around, shared.clone(), rows, items, value) for value in lambda_values)
        best = [merged_topk(old, score, left, k) for old, score in zip(best, scores, strict=True)]
        if items.stop == len(around):
            for number, found in enumerate(best):
                values[number, rows], indices[number, rows] = found
    return list(zip(indices, values, strict=True))


def _blocks(
    around: Neighborhoods, num_queries: int, encoded: RaggedRows, k2: int, k: int, progress: bool | None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Queries, gallery rows (as rows of ``around``) and their overlaps; all of the gallery for a block of queries."""
    num_items, device = len(around) - num_queries, around.unit.device
    budget = block_budget(device)
    roomy = 8 * budget  # for blocks of scores: each is a pass over all queries, so few large ones are better
    height = max(1, min(num_queries, 4096, roomy // (32 * k)))
    mean_length = k2 * (len(encoded.columns) // len(around) + 1)
    width = max(1, min(num_items, max(_BLOCK // height, 1024), roomy // (32 * height + 16 * mean_length)))
    table_height = max(1, min(len(around), budget // (4 * len(around)), budget // (128 * mean_length)))
    table = torch.empty(table_height, len(around), dtype=torch.int32, device=device)
    starts = [(top, left) for top in range(0, num_queries, height) for left in range(0, num_items, width)]
    for top, left in progress_over(starts, "k-reciprocal", progress):
        rows = slice(top, min(top + height, num_queries))
        items = slice(num_queries + left, num_queries + min(left + width, num_items))
        if left == 0:
            encodings = average_over_neighbors(encoded, around.nearest[rows], k2, table)
            queries = QueryEncodings.of(encodings, rows.stop - top, len(around))
        order = _likeness_order(encoded, torch.arange(items.start, items.stop, device=device))
        entries = average_over_neighbors(encoded, around.nearest[items][order], k2, table)
        yield rows, items, overlap(queries, entries, len(order))[torch.argsort(order)].T.contiguous()


def _likeness_order(encoded: RaggedRows, rows: Tensor) -> Tensor:
    """An order of ``rows`` in which rows with many columns in common tend to stand together (a min-hash).

    The compact way of ``overlap.py`` gains by it: a ``tune`` on digits takes 18 CPU seconds in place of 22.
    """
    owner, columns, _ = encoded.take(rows)
    hashed = (columns.long() * 2654435761) % (1 << 32)
    least = torch.full((len(rows),), 1 << 32, device=rows.device).scatter_reduce_(0, owner, hashed, "amin")
    return torch.argsort(least, stable=True)


def _blend(around: Neighborhoods, shared: Tensor, rows: slice, items: slice, lambda_value: float) -> Tensor:
    """``1 - d*`` in float64, in place of ``shared``; the encodings sum to 1, so the union of two is 2 less their overlap."""
    unit = around.unit[items]
    cosine = (around.unit[rows] @ aligned(unit).T)[:, : len(unit)].clamp_(-1, 1).double()
    score = shared.div_(2 - shared).mul_(1 - lambda_value)
    if lambda_value > 0:  # 1 - (2 - 2 cos) / largest, in two steps without further blocks
        slope = 2 * lambda_value / around.largest[rows, None].double()
        score.addcmul_(cosine, slope).add_(lambda_value - slope)
    else:
        score.add_(cosine, alpha=_TIE_BREAK)
    score[:, around.zero[items]] = ZERO_VECTOR_SCORE
    return score
