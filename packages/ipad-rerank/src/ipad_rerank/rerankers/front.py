"""Near-duplicates of a query: nobody wants an exact copy of what was asked for anywhere but in front."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.shortlist import cosines
from ipad_rerank.search.ranking import Ranking

NEAR = 0.05
"""A candidate is a near-duplicate where its distance ``1 - cos`` is at most this share of the tenth candidate's."""

PLACE = 10
"""The candidate that they are compared with. Queries with more near-duplicates than that keep exact copies only."""


def near_duplicates(cosine: Tensor) -> Tensor:
    """``(B, h)`` bool: which candidates are near-duplicates of their query.

    Args:
        cosine: ``(B, h)`` of the candidates to the query.
    """
    distance = 1 - cosine
    ordinary = distance.kthvalue(min(PLACE, cosine.shape[1]), dim=1, keepdim=True).values
    return distance <= (NEAR * ordinary).clamp_min(1e-6)


def keep_in_front(asked: Retrieval, found: Ranking, first: int = 0) -> Ranking:
    """``found`` with what the ranking of ``asked``, by cosine, had in front put there again, in that order.

    Args:
        asked: The queries, with their ranking by cosine.
        found: Another ranking of them.
        first: So many are put in front whatever they are; further ones where they are near-duplicates.
    """
    indices, scores = found.tensors()
    cosine = cosines(asked, max(PLACE, first))
    near = near_duplicates(cosine)
    near[:, :first] = True
    rows = near.any(1).nonzero()[:, 0]
    if not len(rows):
        return found
    best = asked.ranking.tensors()[0][rows, : cosine.shape[1]]
    cosine, near = cosine[rows].to(scores.dtype).cummin(1).values, near[rows]
    lifted = torch.where(near, scores[rows, :1].clamp_min(0) + 1 + cosine, -torch.inf)
    kept, old = scores[rows], indices[rows]
    for column in best.masked_fill(~near, -1).T:  # each is in front now, so no more where it was
        kept = kept.masked_fill(old == column[:, None], -torch.inf)
    merged, order = torch.sort(torch.cat([lifted, kept], 1), dim=1, descending=True, stable=True)
    mixed = torch.cat([best, old], 1).gather(1, order)
    return found.like(
        indices.index_copy(0, rows, mixed[:, : found.k]), scores.index_copy(0, rows, merged[:, : found.k])
    )
