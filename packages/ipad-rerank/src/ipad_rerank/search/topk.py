"""Stable descending order of rows of scores, and the best k of each: ties by lowest column."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Best: TypeAlias = tuple[Tensor, Tensor]
"""Values and columns of the best k of each row, best first."""

_BLOCK = 64
_SIGN = 0x7FFFFFFF


def stable_order(scores: Tensor) -> Tensor:
    """Columns of ``scores (B, N)`` from highest to lowest, ties by lowest column: int64 ``(B, N)``.

    On a CPU, float32 rows are sorted as whole numbers that carry their column in the low half, which is several times
    faster than a stable argsort and gives the same order. ``-0.0`` counts as ``0.0``; NaN is not allowed.
    """
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or scores.shape[1] >= 1 << 31:
        return torch.sort(scores, dim=1, descending=True, stable=True).indices
    bits = (scores + 0.0).contiguous().numpy().view(np.int32)  # adding 0.0 turns -0.0 into 0.0
    ascending = np.where(bits < 0, bits ^ _SIGN, bits)  # whole numbers in the order of the floats
    keys = (~ascending).astype(np.int64)  # descending
    keys <<= 32
    keys |= np.arange(scores.shape[1], dtype=np.int64)
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


def stable_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the top k of each row of ``(Q, N)``, best first: the start of a stable descending sort.

    Ties keep the lowest column, also at the edge of the k. k above N gives N. NaN is not allowed.
    """
    width = scores.shape[1]
    if k >= width:
        columns = stable_order(scores)
        return scores.gather(1, columns), columns
    if 4 * k * _BLOCK <= width // _BLOCK * _BLOCK:
        return _topk_of_blocks(scores, k)
    values, columns = torch.topk(scores, k, dim=1)
    threshold = values[:, -1:]
    crowded = (scores >= threshold).sum(1) > k  # more ties at the edge than places
    if bool(crowded.any()):
        rows = crowded.nonzero()[:, 0]
        above = scores[rows] > threshold[rows]
        equal = scores[rows] == threshold[rows]
        places = k - above.sum(1, keepdim=True)
        keep = above | (equal & (equal.cumsum(1) <= places))
        columns[rows] = keep.nonzero()[:, 1].reshape(len(rows), k)
    columns = columns.sort(dim=1).values
    values = scores.gather(1, columns)
    order = stable_order(values)
    return values.gather(1, order), columns.gather(1, order)


def merged_topk(best: Best | None, scores: Tensor, start: int, k: int) -> Best:
    """The top k of the ``best`` of the columns before ``start``, and of the ``scores (Q, N)`` of those from there on.

    ``best`` is None where nothing came before.
    """
    if best is None:
        values, columns = stable_topk(scores, k)
        return values, columns + start
    full = best[0].shape[1] == k  # then what is not above the k-th best cannot come in
    values, columns = topk_above(scores, best[0][:, -1:], k) if full else stable_topk(scores, k)
    # The best ones stand first and have lower columns, so a stable merge keeps the order of columns among ties.
    values, kept = stable_topk(torch.cat([best[0], values], dim=1), k)
    return values, torch.cat([best[1], columns + start], dim=1).gather(1, kept)


def topk_above(scores: Tensor, floor: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns that hold all of the top k of ``(Q, N)`` that are above the row's ``floor (Q, 1)``.

    Where few are, these are returned in the order of their columns, rows filled up with ``-inf``: much faster than a
    search for the top k. Equal scores are in the order of their columns either way.
    """
    blocks = F.pad(scores, (0, -scores.shape[1] % _BLOCK), value=-torch.inf).unflatten(1, (-1, _BLOCK))
    owners, chosen = (blocks.amax(2) > floor).nonzero(as_tuple=True)
    if 2 * len(owners) * _BLOCK > scores.numel() and 8 * int((scores > floor).sum()) > scores.numel():
        return stable_topk(scores, k)
    hits, inside = (blocks[owners, chosen] > floor[owners]).nonzero(as_tuple=True)
    rows, columns = owners[hits], chosen[hits] * _BLOCK + inside
    counts = torch.bincount(rows, minlength=len(scores))
    places = torch.arange(len(rows), device=scores.device) - (counts.cumsum(0) - counts)[rows]
    shape = (len(scores), int(counts.max()))
    values = scores.new_full(shape, -torch.inf).index_put_((rows, places), scores[rows, columns])
    return values, columns.new_zeros(shape).index_put_((rows, places), columns)


def _topk_of_blocks(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Several times faster where k is much smaller than the row.

    The k blocks of columns with the highest maxima (ties: lowest block) hold the k best columns, lowest column first
    among ties: at most k - 1 blocks hold something better than the k-th best, and each block after them that is
    needed holds at least one of its equals.
    """
    width = scores.shape[1] // _BLOCK * _BLOCK
    blocks = stable_topk(scores[:, :width].unflatten(1, (-1, _BLOCK)).amax(2), k)[1].sort(dim=1).values
    inside = torch.arange(_BLOCK, device=scores.device)
    columns = (blocks[:, :, None] * _BLOCK + inside).flatten(1)
    rest = torch.arange(width, scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, kept = stable_topk(scores.gather(1, columns), k)
    return values, columns.gather(1, kept)
