"""The head of each query's list: re-ordered by scores that look at its vectors, the one loop of all re-rankers.

Near-duplicates of a query stay in front: nobody wants an exact copy of what was asked for anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.search.cosine import own_cosine
from ipad_rerank.search.memory import batches
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE

NEAR = 0.05
"""A candidate is a near-duplicate where its distance ``1 - cos`` is at most this share of the tenth candidate's."""

PLACE = 10
"""The candidate that they are compared with. Queries with more near-duplicates than that keep exact copies only."""

Refine: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Unit queries ``(B, D)`` and their candidates ``(B, n, D)``, best first -> scores ``(B, n)`` above -2."""


class Shortlist:
    """The first candidates of each query, as unit vectors.

    Args:
        asked: The queries, what they search, and the ranking.
        head: How many to take; limited by the ranking's length.
        dtype: Of the work; by default that of ``asked``.
        device: Of the work; by default that of ``asked``.
    """

    def __init__(
        self, asked: Retrieval, head: int, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> None:
        self.asked, self.ranking = asked, asked.ranking
        self.dtype, self.device = dtype or asked.dtype, device or asked.device
        self.head = min(head, self.ranking.k)
        self._indices = self.ranking.tensors()[0][:, : self.head]
        self._unit: Tensor | None = None
        if not asked.own_galleries and len(asked.items) <= self._indices.numel():
            self._unit = asked.items.unit_if_it_fits(None, self.dtype, self.device)  # every row once
        if asked.own_galleries or self._unit is not None:
            self._indices = self._indices.to(self.device)

    def batch(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Unit queries ``(B, D)`` and their candidates ``(B, head, D)``, in the ranking's order."""
        items, indices = self.asked.items, self._indices[rows]
        query = self.asked.queries.unit(rows, self.dtype, self.device)
        if self.asked.own_galleries:
            unit = items.unit(rows, self.dtype, self.device)
            return query, unit.take_along_dim(indices[:, :, None], dim=1)
        return query, items.unit(indices, self.dtype, self.device) if self._unit is None else self._unit[indices]

    def rerank(self, refine: Refine, numbers: int, most: int | None = None) -> Ranking:
        """The ranking with its head in the order of ``refine``'s scores; the tail stays.

        Args:
            refine: Gives the scores. A query that is a zero vector keeps its order, and zero candidates come last,
                whatever they are.
            numbers: How many numbers it holds for each query; sets the batch where ``batch_size`` is not given.
            most: Limit of that batch.
        """
        count, options = len(self.ranking), self.asked.options
        refined = torch.empty(count, self.head, dtype=self.dtype, device=self.device)
        parts = batches(count, self.dtype.itemsize * numbers, self.device, options.batch_size, most)
        for rows in progress_over(parts, "Re-ranking", options.progress):
            query, unit = self.batch(rows)
            scores = refine(query, unit).masked_fill((query == 0).all(-1, keepdim=True), 0.0)
            refined[rows] = scores.masked_fill((unit == 0).all(-1), ZERO_VECTOR_SCORE)
        return splice(self.ranking, self._with_border(refined))

    def _with_border(self, refined: Tensor) -> Tensor:
        """Scores of the head, with -inf for candidates that are the same vector as the first one behind it.

        Equal vectors get equal scores, so those keep the place and the score that they came with.
        """
        border = self.ranking.tensors()[1][:, self.head - 1 : self.head + 1]
        tied = (border[:, :1] == border[:, 1:]).nonzero()[:, 0].tolist()
        further = Shortlist(self.asked, self.head + 1, self.dtype, self.device) if tied else self
        for row in tied:
            unit = further.batch(slice(row, row + 1))[1][0]
            refined[row, (unit[:-1] == unit[-1]).all(1)] = -torch.inf
        return refined


def cosines(asked: Retrieval, head: int) -> Tensor:
    """``(Q, head)`` of the first candidates to the query, on the ranking's device; -2 for zero vectors."""
    few = Shortlist(asked, head)
    found = [own_cosine(*few.batch(rows)) for rows in asked.batches(4 * few.head * asked.items.dim)]
    return torch.cat(found).to(few.ranking.tensors()[0].device)


def splice(ranking: Ranking, refined: Tensor) -> Ranking:
    """``ranking`` with its first ``refined.shape[1]`` candidates sorted by ``refined (Q, h)``, ties in the old order.

    The tail keeps order and scores; a head that would score below its tail is raised as a whole, so scores descend. What is
    -inf belongs to the tail: it comes last in the head, with the score of the tail's first.
    """
    indices, scores = ranking.tensors()
    head = refined.shape[1]
    refined, order = torch.sort(refined.to(indices.device), dim=1, descending=True, stable=True)
    front = indices[:, :head].gather(1, order)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    refined, tail = refined.to(dtype), scores[:, head:].to(dtype)
    if tail.shape[1]:
        floor = tail[:, :1]
        lowest = refined.masked_fill(refined.isneginf(), torch.inf).amin(1, keepdim=True)
        refined = torch.maximum(refined + (floor - lowest).clamp_min(0), floor)
    return ranking.like(torch.cat([front, indices[:, head:]], 1), torch.cat([refined, tail], 1))


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
