"""k nearest neighbors of every vector among all, itself first, and the largest distance of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ipad_rerank.search.cosine import aligned
from ipad_rerank.search.memory import slices, work_budget
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.topk import stable_topk
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE, Pair


def block_budget(device: torch.device) -> int:
    """Bytes of one block of work: an eighth of what may be used, since blocks near the cache are twice as fast."""
    return work_budget(device) // 8


@dataclass(frozen=True)
class Neighborhoods:
    """What k-reciprocal encoding needs to know of N vectors.

    Args:
        unit: ``(N, D)`` unit vectors, or zero vectors.
        zero: ``(N,)`` bool, which are zero vectors.
        nearest: ``(N, K)`` int64, itself first, then by cosine, ties by lowest row; a zero vector has only itself.
        largest: ``(N,)`` the largest squared distance ``2 - 2 cos`` to any non-zero vector, 1 where that is 0.
    """

    unit: Tensor
    zero: Tensor
    nearest: Tensor
    largest: Tensor

    def __len__(self) -> int:
        return len(self.unit)


def find_neighborhoods(
    unit: Tensor, k: int, batch_size: int | None = None, progress: bool | None = None
) -> Neighborhoods:
    """Find the ``k`` nearest of each row of ``unit (N, D)``, itself included, a batch of rows at a time."""
    k = min(k, len(unit))
    zero = (unit == 0).all(1)
    any_zero = bool(zero.any())  # asked once: a mask of none costs a quarter of the search
    padded = aligned(unit)
    nearest = torch.empty(len(unit), k, dtype=torch.int64, device=unit.device)
    largest = torch.empty(len(unit), dtype=unit.dtype, device=unit.device)
    step = batch_size or max(1, min(1024, block_budget(unit.device) // (2 * unit.element_size() * len(padded))))
    scratch = torch.empty(min(step, len(unit)), len(padded), dtype=unit.dtype, device=unit.device)
    for rows in progress_over(slices(len(unit), step), "Neighbors", progress):
        height = rows.stop - rows.start
        cosine = torch.mm(unit[rows], padded.T, out=scratch[:height])[:, : len(unit)].clamp_(-1, 1)
        if any_zero:
            cosine[:, zero] = 2.0
        distance = 2 - 2 * cosine.amin(1)
        if any_zero:
            cosine[:, zero] = ZERO_VECTOR_SCORE
        cosine[:, rows].fill_diagonal_(3.0)  # itself first
        nearest[rows] = stable_topk(cosine, k)[1]
        largest[rows] = torch.where(distance > 0, distance, 1.0)
    nearest[zero] = zero.nonzero()
    return Neighborhoods(unit, zero, nearest, largest)


def joint_unit(pair: Pair) -> Tensor:
    """``(Q + G, D)`` unit vectors, queries first."""
    queries, items, dtype, device = pair
    return torch.cat([queries.all_unit(None, dtype, device), items.all_unit(None, dtype, device)])
