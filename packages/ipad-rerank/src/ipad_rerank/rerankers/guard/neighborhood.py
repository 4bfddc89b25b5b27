"""What a query's neighborhood shows, before and after a re-ranking, as a few numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.shortlist import Shortlist, cosines
from ipad_rerank.search.ranking import Ranking

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


def neighborhood(asked: Retrieval, found: Ranking) -> Tensor:
    """``(Q, 11)`` float64 on the CPU, one column for each of ``FEATURES``.

    How fast similarity falls with the place, how alike the first candidates are to each other, and how much of the
    first ten a re-ranking replaces, and by what. A class of a few items shows a cliff behind them; a large one does not.

    Args:
        asked: With the ranking by cosine.
        found: Re-ranked.
    """
    lists = Shortlist(asked, DEPTH)
    stays = _overlap(asked.ranking.tensors()[0][:, :10], found.tensors()[0][:, :10]).cpu()
    moved = cosines(asked.after(found), 10).double().mean(1).cpu()
    values = torch.empty(len(stays), len(FEATURES), dtype=torch.float64)
    for rows in asked.batches(4 * DEPTH * (asked.items.dim + DEPTH)):
        query, unit = lists.batch(rows)
        cosine = (unit * query[:, None]).sum(-1)
        columns = [cosine[:, min(place, lists.head) - 1] for place in _PLACES]
        columns += [_alike(unit[:, :count]) for count in _CIRCLES]
        columns.append((cosine > (cosine[:, :1] + cosine[:, -1:]) / 2).to(cosine.dtype).mean(1))
        values[rows] = torch.stack([*(column.double().cpu() for column in columns), stays[rows], moved[rows]], dim=1)
    return values


def _alike(unit: Tensor) -> Tensor:
    """Mean cosine between different ones of ``(B, n, D)``: ``|sum|^2 = n + n (n - 1) mean``."""
    count = unit.shape[1]
    if count < 2:
        return torch.ones_like(unit[:, 0, 0])
    return (unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))) / (count * (count - 1))


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Share of ``one (Q, n)`` that is in ``other`` too."""
    return (one[:, :, None] == other[:, None]).any(2).double().mean(1)
