"""Re-order the head of each query's list by scores that look at its vectors: the one loop of all re-rankers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from ipad_rerank.search.memory import rows_that_fit, work_budget
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE, Vectors, positive_int

Refine: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Unit queries ``(B, D)`` and their candidates ``(B, n, D)``, best first -> scores ``(B, n)`` above -2."""


class Shortlist:
    """The first candidates of each query, as unit vectors.

    Args:
        queries: ``(Q, D)``.
        items: ``(G, D)``, or ``(Q, k, D)`` where each query has a gallery of its own.
        ranking: Rows of the gallery, or columns of the query's own one.
        head: How many to take; limited by ``ranking.k``.
        dtype: Of the work.
        device: Of the work.
    """

    def __init__(
        self,
        queries: Vectors,
        items: Vectors,
        ranking: Ranking,
        head: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        own_galleries = len(items.shape) == 3
        ranking.check_gallery(len(queries), items.shape[1] if own_galleries else len(items))
        self.queries, self.items, self.ranking, self.dtype, self.device = queries, items, ranking, dtype, device
        self.head = min(head, ranking.k)
        self._own_galleries = own_galleries
        self._indices = ranking.tensors()[0][:, : self.head]
        self._unit: Tensor | None = None
        needed = 4 * dtype.itemsize * len(items) * items.dim
        if not own_galleries and len(items) <= self._indices.numel() and needed <= work_budget(device):
            self._unit = items.unit(0, len(items), dtype, device)  # small enough: normalise every row once
        if own_galleries or self._unit is not None:
            self._indices = self._indices.to(device)

    def batch(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Unit queries ``(B, D)`` and their candidates ``(B, head, D)``, in the ranking's order."""
        query = self.queries.unit(rows.start, rows.stop, self.dtype, self.device)
        indices = self._indices[rows]
        if self._own_galleries:
            unit = self.items.unit(rows.start, rows.stop, self.dtype, self.device)
            return query, unit.take_along_dim(indices[:, :, None], dim=1)
        return query, self.items.take(indices, self.dtype, self.device) if self._unit is None else self._unit[indices]

    def rerank(
        self,
        refine: Refine,
        numbers: int,
        batch_size: int | None = None,
        most: int | None = None,
        progress: bool | None = False,
    ) -> Ranking:
        """The ranking with its head in the order of ``refine``'s scores; the tail stays.

        Args:
            refine: Gives the scores. A query that is a zero vector keeps its order, and zero candidates come last,
                whatever they are.
            numbers: How many numbers it holds for each query; sets the batch where ``batch_size`` is None.
            batch_size: Queries at a time.
            most: Limit of the batch where ``batch_size`` is None.
            progress: Show a bar; None for on a terminal.
        """
        refined = torch.empty(len(self.queries), self.head, dtype=self.dtype, device=self.device)
        parts = list(batches(len(self.queries), numbers, self.dtype, self.device, batch_size, most))
        for rows in progress_over(parts, len(parts), "Re-ranking", progress):
            query, unit = self.batch(rows)
            scores = refine(query, unit).masked_fill((query == 0).all(-1, keepdim=True), 0.0)
            refined[rows] = scores.masked_fill((unit == 0).all(-1), ZERO_VECTOR_SCORE)
        return splice(self.ranking, refined)


def splice(ranking: Ranking, refined: Tensor) -> Ranking:
    """``ranking`` with its first ``refined.shape[1]`` candidates sorted by ``refined (Q, h)``, ties in the old order.

    The tail keeps order and scores; a head that would score below its tail is raised as a whole, so scores descend.
    """
    indices, scores = ranking.tensors()
    head = refined.shape[1]
    refined, order = torch.sort(refined.to(indices.device), dim=1, descending=True, stable=True)
    front = indices[:, :head].gather(1, order)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    refined, tail = refined.to(dtype), scores[:, head:].to(dtype)
    if tail.shape[1]:
        floor = tail[:, :1]
        refined = torch.maximum(refined + (floor - refined[:, -1:]).clamp_min(0), floor)
    return ranking.like(torch.cat([front, indices[:, head:]], 1), torch.cat([refined, tail], 1))


def rank_candidates(queries: Vectors, items: Vectors, dtype: torch.dtype, device: torch.device) -> Ranking:
    """Each query's candidates ``(Q, k, D)`` by cosine; indices are columns, ties by lowest column."""
    scores = torch.empty(items.shape[:2], dtype=dtype, device=device)
    for rows in batches(len(items), 4 * items.shape[1] * items.dim, dtype, device):
        unit = items.unit(rows.start, rows.stop, dtype, device)
        query = queries.unit(rows.start, rows.stop, dtype, device)
        scores[rows] = (unit * query[:, None]).sum(-1).clamp_(-1, 1)
        scores[rows] = scores[rows].masked_fill((unit == 0).all(-1), ZERO_VECTOR_SCORE)
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return Ranking(queries.in_kind(order), queries.in_kind(scores))


def batches(
    num_queries: int,
    numbers: int,
    dtype: torch.dtype,
    device: torch.device,
    batch_size: int | None = None,
    most: int | None = None,
) -> Iterator[slice]:
    """Slices of queries, sized from free memory (``numbers`` a query, at most ``most``) unless ``batch_size`` is given."""
    if batch_size is None:
        batch_size = min(rows_that_fit(dtype.itemsize * numbers, device), most or num_queries)
    step = min(positive_int(batch_size, "batch_size"), max(num_queries, 1))
    for start in range(0, num_queries, step):
        yield slice(start, min(start + step, num_queries))
