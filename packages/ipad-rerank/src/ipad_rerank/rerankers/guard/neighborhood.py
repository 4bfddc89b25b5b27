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


def neighborhood(asked: Retrieval, found: Ranking) -> Tensor:
    """``(Q, 11)`` float64 on the CPU, for each query:

    * how fast similarity falls: the cosines at places 1, 3, 10, 30 and 50;
    * how alike the first 5, 10 and 30 candidates are: the mean cosine among them;
    * the share of candidates above the middle between the first cosine and the last;
    * what a re-ranking does to the first ten: the share that stays, and the mean cosine of the new ones to the query.

    A class of a few items shows a cliff behind them; a large one does not.

    Args:
        asked: With the ranking by cosine.
        found: Re-ranked.
    """
    lists = Shortlist(asked, DEPTH)
    stays = _overlap(asked.ranking.tensors()[0][:, :10], found.tensors()[0][:, :10]).cpu()
    moved = cosines(asked.after(found), 10).double().mean(1).cpu()
    before = []
    for rows in asked.batches(4 * DEPTH * (asked.items.dim + DEPTH)):
        query, unit = lists.batch(rows)
        cosine = (unit * query[:, None]).sum(-1)
        columns = [cosine[:, min(place, lists.head) - 1] for place in _PLACES]
        columns += [_alike(unit[:, :count]) for count in _CIRCLES]
        columns.append((cosine > (cosine[:, :1] + cosine[:, -1:]) / 2).to(cosine.dtype).mean(1))
        before.append(torch.stack(columns, dim=1).double().cpu())
    return torch.cat([torch.cat(before), stays[:, None], moved[:, None]], dim=1)


def _alike(unit: Tensor) -> Tensor:
    """Mean cosine between different ones of ``(B, n, D)``: ``|sum|^2 = n + n (n - 1) mean``."""
    count = unit.shape[1]
    if count < 2:
        return torch.ones_like(unit[:, 0, 0])
    return (unit.sum(1).square().sum(-1) - unit.square().sum((1, 2))) / (count * (count - 1))


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Share of ``one (Q, n)`` that is in ``other`` too."""
    return (one[:, :, None] == other[:, None]).any(2).double().mean(1)
