"""k-reciprocal sets and their encodings (Zhong et al. 2017, Eq. 2, 4 to 8), sparse and in chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.k_reciprocal.neighborhoods import Neighborhoods, block_budget
from ipad_rerank.rerankers.k_reciprocal.sparse_rows import RaggedRows, merge_equal, quantize, segment_sum
from ipad_rerank.search.memory import slices


def half_of(k1: int) -> int:
    """k1 / 2 to the nearest whole number, ties to even, as in the authors' code."""
    return round(k1 / 2)


def reciprocal_mask(nearest: Tensor, zero: Tensor, k: int) -> Tensor:
    """``(N, k + 1)`` bool: is row i among the first k + 1 of its neighbor ``nearest[i, a]`` too?"""
    lists = nearest[:, : k + 1]
    mask = torch.empty(lists.shape, dtype=torch.bool, device=lists.device)
    for rows in slices(len(lists), max(1, block_budget(lists.device) // (16 * lists.shape[1] ** 2))):
        numbers = torch.arange(rows.start, rows.stop, device=lists.device)
        mask[rows] = (lists[lists[rows]] == numbers[:, None, None]).any(2)
    mask &= ~zero[lists]
    mask[:, 0] = True  # itself, also where it is a zero vector
    return mask


def encode(around: Neighborhoods, k1: int) -> RaggedRows:
    """Each vector's expanded k-reciprocal set (Eq. 5) with Gaussian weights that sum to 1 (Eq. 7).

    ``R*(i)`` starts as ``R(i, k1)``; each c in it adds its own ``R(c, k1 / 2)`` if more than 2/3 of that lies in
    ``R(i, k1)``. Weights are ``exp(-d)``, d the squared distance over the largest one of row i.
    """
    nearest = around.nearest
    full = nearest[:, : k1 + 1]
    half = nearest[:, : half_of(k1) + 1]
    in_full, in_half = reciprocal_mask(nearest, around.zero, k1), reciprocal_mask(nearest, around.zero, half_of(k1))
    count, device = len(nearest), nearest.device
    per_row = 5 * count + full.shape[1] * (40 * half.shape[1] + 64)
    step = max(1, min(count, block_budget(device) // per_row))
    member = torch.zeros(step, count, dtype=torch.bool, device=device)
    table = torch.empty(step, count, dtype=torch.int32, device=device)
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in slices(count, step):
        owner, columns = _expanded(full[rows], in_full[rows], half, in_half, member, table)
        weights = quantize(torch.exp(-_distance(around, owner + rows.start, columns)))
        weights /= segment_sum(owner, weights, rows.stop - rows.start)[owner]
        lengths = torch.bincount(owner, minlength=rows.stop - rows.start)
        pieces.append((lengths, columns.int(), quantize(weights)))
    return RaggedRows.join(*zip(*pieces, strict=True))


def average_over_neighbors(
    encoded: RaggedRows, nearest: Tensor, k2: int, table: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Local query expansion (Eq. 11): mean encoding of each row's first k2 neighbors, itself one of them.

    Args:
        encoded: All rows.
        nearest: ``(m, K)`` neighbors of the rows wanted.
        k2: How many to average.
        table: ``(any, N)`` int32 scratch; its height is how many rows are merged at a time.

    Returns:
        Row (of the m), column, value; sorted by row, columns distinct within a row.
    """
    lists, pieces = nearest[:, :k2], []
    for rows in slices(len(lists), len(table)):
        owner, columns, values = encoded.take(lists[rows].reshape(-1))
        if lists.shape[1] > 1:
            owner = torch.div(owner, lists.shape[1], rounding_mode="floor")
            owner, columns, values = merge_equal(owner, columns.long(), values, table)
            values = quantize(values / lists.shape[1])
        pieces.append((owner + rows.start, columns.long(), values))
    return tuple(torch.cat(parts) for parts in zip(*pieces, strict=True))


def _expanded(
    lists: Tensor, in_lists: Tensor, half: Tensor, in_half: Tensor, member: Tensor, table: Tensor
) -> tuple[Tensor, Tensor]:
    """Row and column of every member of the expanded sets, grouped by row."""
    member = member[: len(lists)]
    member.scatter_(1, lists, in_lists)
    row, place = in_lists.nonzero(as_tuple=True)
    center = lists[row, place]
    others, valid = half[center], in_half[center]  # (P, half + 1)
    overlap = (member[row[:, None], others] & valid).sum(1)
    member.scatter_(1, lists, False)
    taken = valid & (3 * overlap > 2 * valid.sum(1))[:, None]
    extra, which = taken.nonzero(as_tuple=True)
    owner = torch.cat([row, row[extra]])
    columns = torch.cat([center, others[extra, which]])
    owner, columns, _ = merge_equal(owner, columns, columns.new_zeros(len(columns), dtype=torch.float64), table)
    order = torch.argsort(owner, stable=True)
    return owner[order], columns[order]


def _distance(around: Neighborhoods, rows: Tensor, columns: Tensor) -> Tensor:
    """``2 - 2 cos`` of pairs, over the largest of the row; a row to itself is 0."""
    cosine = torch.empty(len(rows), dtype=around.unit.dtype, device=rows.device)
    step = max(1, block_budget(rows.device) // (4 * around.unit.element_size() * around.unit.shape[1]))
    for part in slices(len(rows), step):
        cosine[part] = (around.unit[rows[part]] * around.unit[columns[part]]).sum(1)
    distance = (2 - 2 * cosine.clamp(-1, 1)) / around.largest[rows]
    return distance.masked_fill(rows == columns, 0.0)
