"""Cosine similarities of a few queries to all (or some) gallery rows, the gallery read in chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors
from ipad_rerank._memory import work_budget

ALIGN = 64


def aligned(unit: Tensor) -> Tensor:
    """``(N, D)`` with rows of zeros behind it up to a multiple of 64.

    A matrix product treats a last, incomplete tile otherwise than the rest: without them, equal vectors would not
    always get bit-equal scores.
    """
    missing = -len(unit) % ALIGN
    return torch.cat([unit, unit.new_zeros(missing, unit.shape[1])]) if missing else unit


def padded_cosine(unit_query: Tensor, items: Vectors, rows: Tensor | None = None) -> Tensor:
    """``(B, G)``, or ``(B, len(rows))``; a zero vector of the gallery scores -2, below every cosine."""
    count = len(items) if rows is None else len(rows)
    scores = unit_query.new_empty(len(unit_query), count)
    step = max(ALIGN, work_budget(unit_query.device) // (4 * 32 * items.dim) // ALIGN * ALIGN)
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = _unit(items, rows, start, stop, unit_query)
        zero = (block == 0).all(1)
        scores[:, start:stop] = (unit_query @ aligned(block).T)[:, : stop - start].clamp_(-1, 1)
        if bool(zero.any()):
            scores[:, start:stop][:, zero] = ZERO_VECTOR_SCORE
    return scores


def _unit(items: Vectors, rows: Tensor | None, start: int, stop: int, like: Tensor) -> Tensor:
    if rows is None:
        return items.unit(start, stop, like.dtype, like.device)
    return items.take(rows[start:stop], like.dtype, like.device)
