"""Mean AP of a whole retrieval, straight from vectors, without ever holding a query-by-gallery matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Judge, Judged, NoRelevant, without_relevant
from ipad_rerank.metrics.summary import Averaging, average
from ipad_rerank.search.cosine import padded_cosine
from ipad_rerank.search.groups import ALL, searches
from ipad_rerank.search.memory import work_budget
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.topk import stable_order
from ipad_rerank.search.vectors import Array, ArrayLike, compute_dtype, pair_of, positive_int, work_device


def retrieval_average_precision(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    no_relevant: NoRelevant = "zero",
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Array:
    """``(Q,)`` AP over the full ranking by cosine similarity; with groups each query meets its own group only.

    The same values as ``average_precision(rank(query, gallery), ...)``, at the memory of one batch of queries. Ties
    keep the gallery's order, zero vectors rank last.

    Args:
        query: ``(Q, D)`` numpy array, torch tensor or lists.
        gallery: ``(G, D)``.
        query_labels: ``(Q,)`` whole numbers; never changed.
        gallery_labels: ``(G,)``.
        query_groups: ``(Q,)``, with ``gallery_groups``.
        gallery_groups: ``(G,)``.
        no_relevant: "zero" or "skip" (NaN), for queries without a relevant item.
        batch_size: Queries at a time; by default from free memory.
        progress: Show a bar; by default on a terminal.
    """
    queries, items = pair_of(query, gallery)
    judge = Judge(query_labels, gallery_labels, query_groups, gallery_groups, len(queries), len(items))
    dtype = compute_dtype(queries, items)
    device = work_device(queries, items)
    values = torch.zeros(len(queries), dtype=torch.float64)
    batches = list(_batches(judge, len(items), items.dim, device, batch_size))
    for query_rows, gallery_rows in progress_over(batches, len(batches), "Evaluating", progress):
        scores = padded_cosine(queries.take(query_rows, dtype, device), items, gallery_rows)
        order = stable_order(scores).cpu()
        classes = judge.gallery_classes if gallery_rows is None else judge.gallery_classes[gallery_rows]
        relevant = classes[order] == judge.query_classes[query_rows][:, None]
        place = torch.arange(1, order.shape[1] + 1, dtype=torch.float64).expand(order.shape)
        values[query_rows] = average_precision_of(Judged(relevant, place, judge.total[query_rows]), order.shape[1])
    return queries.in_kind(without_relevant(values, judge.total, no_relevant))


def retrieval_map(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    weighting: Averaging = "query",
    **options: Any,
) -> float:
    """Mean of :func:`retrieval_average_precision`, with its options; ``weighting`` as in ``mean_average_precision``."""
    labels = (query_labels, gallery_labels, query_groups, gallery_groups)
    values = retrieval_average_precision(query, gallery, *labels, **options)
    return average(values, query_groups, query_labels, weighting=weighting)


def _batches(
    judge: Judge, num_gallery: int, dim: int, device: torch.device, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """``(query rows, gallery rows or None for all)``, group by group; a group that the gallery lacks keeps AP 0."""
    if batch_size is not None:
        batch_size = positive_int(batch_size, "batch_size")
    for query_rows, gallery_rows in searches(judge.query_groups, judge.gallery_groups):
        asked = torch.arange(len(judge))[query_rows]
        found = None if gallery_rows is ALL else torch.from_numpy(gallery_rows)
        count = num_gallery if found is None else len(found)
        step = batch_size or max(1, min(1024, work_budget(device) // (64 * count + 8 * dim)))
        for start in range(0, len(asked), step):
            yield asked[start : start + step], found
