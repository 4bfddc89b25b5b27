"""What a query's neighborhood shows, before and after a re-ranking, as a few numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.shortlist import Shortlist, batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, candidates_of, compute_dtype, pair_of, work_device

DEPTH = 50
"""Candidates that are looked at."""

_PLACES = (1, 3, 10, 30, 50)
_CIRCLES = (5, 10, 30)

FEATURES = (
    *(f"cosine at {place}" for place in _PLACES),
    *(f"cosine among the first {count}" for count in _CIRCLES),
    "share above the middle",
    "first ten that stay",
    "cosine of the new first ten",
)


def neighborhood(
    query: ArrayLike, gallery: ArrayLike, before: Ranking, after: Ranking, own_galleries: bool = False
) -> Tensor:
    """``(Q, 11)`` float64 on the CPU, one column for each of ``FEATURES``.

    How fast similarity falls with the place, how alike the first candidates are to each other, and how much of the
    first ten a re-ranking replaces, and by what. A class of a few items shows a cliff behind them; a large one does not.

    Args:
        query: ``(Q, D)``.
        gallery: ``(G, D)``, or ``(Q, k, D)`` with ``own_galleries``.
        before: By cosine.
        after: Re-ranked.
        own_galleries: Whether each query has a gallery of its own.
    """
    queries, items = (candidates_of if own_galleries else pair_of)(query, gallery)
    dtype, device = compute_dtype(queries, items), work_device(queries, items)
    first, second = (Shortlist(queries, items, ranking, DEPTH, dtype, device) for ranking in (before, after))
    stays = _overlap(before.tensors()[0][:, :10], after.tensors()[0][:, :10])
    found = torch.empty(len(queries), len(FEATURES), dtype=torch.float64)
    for rows in batches(len(queries), 4 * DEPTH * (items.dim + DEPTH), dtype, device):
        asked, unit = first.batch(rows)
        cosine = (unit * asked[:, None]).sum(-1)
        moved = (second.batch(rows)[1][:, :10] * asked[:, None]).sum(-1).mean(1)
        columns = [cosine[:, min(place, first.head) - 1] for place in _PLACES]
        columns += [_alike(unit[:, :count]) for count in _CIRCLES]
        middle = (cosine[:, :1] + cosine[:, -1:]) / 2
        columns += [(cosine > middle).to(dtype).mean(1), stays[rows].to(device, dtype), moved]
        found[rows] = torch.stack(columns, dim=1).double().cpu()
    return found


def _alike(unit: Tensor) -> Tensor:
    """Mean cosine between different ones of ``(B, n, D)``: ``|sum|^2 = n + n (n - 1) mean``."""
    count = unit.shape[1]
    if count < 2:
        return torch.ones_like(unit[:, 0, 0])
    return (unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))) / (count * (count - 1))


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Share of ``one (Q, n)`` that is in ``other`` too."""
    return (one[:, :, None] == other[:, None]).any(2).double().mean(1)
