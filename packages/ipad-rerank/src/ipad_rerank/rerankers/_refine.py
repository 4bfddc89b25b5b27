"""Re-order candidates in batches of queries: what the peers share when they work on a shortlist only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors, compute_dtype, positive_int
from ipad_rerank._memory import rows_that_fit
from ipad_rerank._topk import stable_topk
from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._splice import splice

Refine = Callable[[Tensor, Tensor], Tensor]
"""Unit queries ``(B, D)`` and their candidates ``(B, n, D)``, best first -> scores ``(B, n)`` above -2."""


def refine_ranking(
    refine: Refine, query: Any, gallery: Any, ranking: Ranking, head: int, cost: int, batch_size: int | None = None
) -> Ranking:
    """The first ``head`` candidates of each query re-ordered by ``refine``; the tail stays.

    Args:
        refine: See :data:`Refine`.
        query: ``(Q, D)``.
        gallery: ``(G, D)``.
        ranking: Into the gallery.
        head: How many to re-order; limited by ``ranking.k``.
        cost: Numbers held per query and candidate pair (the pairs are ``head * head``).
        batch_size: Queries at a time.
    """
    queries, items = vectors_of(query, gallery)
    ranking.check_gallery(len(queries), len(items))
    indices = ranking.tensors()[0]
    head = min(head, ranking.k)
    dtype, device = compute_dtype(queries, items), work_device(queries, items)
    refined = torch.empty(len(queries), head, dtype=dtype, device=device)
    for rows in batches(len(queries), head, items.dim, cost, dtype, device, batch_size):
        unit = items.take(indices[rows, :head], dtype, device)
        refined[rows] = _scores(refine, queries.unit(rows.start, rows.stop, dtype, device), unit)
    return splice(ranking, refined)


def refine_candidates(
    refine: Refine, query: Any, candidates: Any, cost: int, batch_size: int | None = None
) -> Ranking:
    """Order the columns of ``candidates (Q, k, D)`` by ``refine``, which sees them sorted by cosine."""
    queries, items = candidates_of(query, candidates)
    dtype, device = compute_dtype(queries, items), work_device(queries, items)
    count = items.shape[1]
    indices = torch.empty(len(queries), count, dtype=torch.int64, device=device)
    scores = torch.empty(len(queries), count, dtype=dtype, device=device)
    for rows in batches(len(queries), count, items.dim, cost, dtype, device, batch_size):
        own, unit, first = by_cosine(queries, items, rows, dtype, device)
        refined = _scores(refine, own, unit)
        scores[rows], order = torch.sort(refined, dim=1, descending=True, stable=True)
        indices[rows] = first.gather(1, order)
    return Ranking(queries.in_kind(indices), queries.in_kind(scores))


def vectors_of(query: Any, gallery: Any) -> tuple[Vectors, Vectors]:
    """Both arguments, checked."""
    queries = Vectors(query, "query")
    return queries, Vectors(gallery, "gallery", dim=queries.dim)


def candidates_of(query: Any, candidates: Any) -> tuple[Vectors, Vectors]:
    """``query (Q, D)`` and ``candidates (Q, k, D)``, checked."""
    queries = Vectors(query, "query")
    items = Vectors(candidates, "candidates", dim=queries.dim, ndim=3)
    if len(items) != len(queries):
        raise ValueError(f"candidates has {len(items)} rows, query has {len(queries)}; they must be equal")
    return queries, items


def by_cosine(
    queries: Vectors, items: Vectors, rows: slice, dtype: torch.dtype, device: torch.device, k: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Unit queries ``(B, D)``, their best (all) k candidates ``(B, k, D)`` in order, and the columns these came from."""
    own = queries.unit(rows.start, rows.stop, dtype, device)
    unit = items.unit(rows.start, rows.stop, dtype, device)
    cosine = (unit * own[:, None]).sum(-1).masked_fill((unit == 0).all(-1), ZERO_VECTOR_SCORE)
    columns = stable_topk(cosine, k or cosine.shape[1])[1]
    return own, unit.take_along_dim(columns[:, :, None], dim=1), columns


def work_device(queries: Vectors, items: Vectors) -> torch.device:
    """Where to compute: on a GPU where one of the two is there."""
    return items.device if items.device.type != "cpu" else queries.device


def batches(
    num_queries: int, head: int, dim: int, cost: int, dtype: torch.dtype, device: torch.device, batch_size: int | None
) -> Iterator[slice]:
    """Slices of queries, sized from free memory unless ``batch_size`` is given."""
    if batch_size is None:
        size = 8 if dtype == torch.float64 else 4
        batch_size = rows_that_fit(size * head * (4 * dim + cost * head + 8), device)
    step = min(positive_int(batch_size, "batch_size"), max(num_queries, 1))
    for start in range(0, num_queries, step):
        yield slice(start, min(start + step, num_queries))


def _scores(refine: Refine, own: Tensor, unit: Tensor) -> Tensor:
    return refine(own, unit).masked_fill((unit == 0).all(-1), ZERO_VECTOR_SCORE)
