"""Near-duplicates of a query: nobody wants an exact copy of what was asked for anywhere but in front."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.shortlist import Shortlist, batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, candidates_of, compute_dtype, pair_of, work_device

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


def keep_in_front(
    query: ArrayLike, gallery: ArrayLike, before: Ranking, after: Ranking, own_galleries: bool = False
) -> Ranking:
    """``after`` with the near-duplicates that ``before`` had in front put there again, by cosine.

    Args:
        query: ``(Q, D)``, as asked.
        gallery: ``(G, D)``, or ``(Q, k, D)`` with ``own_galleries``.
        before: A ranking by cosine.
        after: A ranking of the same shape.
        own_galleries: Whether each query has a gallery of its own.
    """
    queries, items = (candidates_of if own_galleries else pair_of)(query, gallery)
    dtype, device = compute_dtype(queries, items), work_device(queries, items)
    few = Shortlist(queries, items, before, PLACE, dtype, device)
    indices = before.tensors()[0][:, : few.head]
    cosine = torch.empty(indices.shape, dtype=dtype, device=device)
    for rows in batches(len(queries), 4 * few.head * items.dim, dtype, device):
        asked, unit = few.batch(rows)
        cosine[rows] = (unit * asked[:, None]).sum(-1)
    near = near_duplicates(cosine).to(indices.device)
    rows = near.any(1).nonzero()[:, 0]
    if not len(rows):
        return after
    indices, cosine, near = indices[rows], cosine.to(indices.device)[rows], near[rows]
    found, scores = (part.clone() for part in after.tensors())
    top = scores[rows, :1].clamp_min(0).to(scores.dtype)
    lifted = torch.where(near, top + 1 + cosine.to(scores.dtype), -torch.inf)
    kept = scores[rows]
    for column in indices.masked_fill(~near, -1).T:  # each is in front now, so no more where it was
        kept = kept.masked_fill(found[rows] == column[:, None], -torch.inf)
    merged, order = torch.sort(torch.cat([lifted, kept], 1), dim=1, descending=True, stable=True)
    width = found.shape[1]
    scores[rows] = merged[:, :width]
    found[rows] = torch.cat([indices, found[rows]], 1).gather(1, order)[:, :width]
    return after.like(found, scores)
