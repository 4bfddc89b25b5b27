"""Mean AP of a whole retrieval, straight from vectors, without ever holding a query-by-gallery matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Judge, Judged, NoRelevant, without_relevant
from ipad_rerank.metrics.summary import Averaging, average
from ipad_rerank.search.cosine import padded_cosine, unit_cosine
from ipad_rerank.search.labels import ALL, searches
from ipad_rerank.search.memory import batches
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.topk import stable_order
from ipad_rerank.search.vectors import Array, ArrayLike, pair_of, positive_int

_BYTES = 40  # that one item of the gallery takes for each query of a batch: score, sort key, class, place


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
    queries, items, dtype, device = pair_of(query, gallery)
    judge = Judge(len(queries), len(items), query_labels, gallery_labels, query_groups, gallery_groups)
    values = torch.zeros(len(queries), dtype=torch.float64)  # a group that the gallery lacks keeps AP 0
    parts: list[tuple[Tensor, Tensor | None]] = []  # queries, and rows of the gallery or None for all
    size = None if batch_size is None else positive_int(batch_size, "batch_size")
    for query_rows, gallery_rows in searches(judge.query_groups, judge.gallery_groups):
        found = None if gallery_rows is ALL else torch.from_numpy(gallery_rows)
        per_query = _BYTES * (len(items) if found is None else len(found)) + 8 * items.dim
        rows = torch.arange(len(judge))[query_rows]
        parts += [(rows[part], found) for part in batches(len(rows), per_query, device, size, most=1024)]
    held, unit = object(), None
    for query_rows, gallery_rows in progress_over(parts, "Evaluating", progress):
        if gallery_rows is not held:
            held, unit = gallery_rows, items.unit_if_it_fits(gallery_rows, dtype, device)
        part = queries.unit(query_rows, dtype, device)
        scores = padded_cosine(part, items, gallery_rows) if unit is None else unit_cosine(part, unit)
        order = stable_order(scores).cpu()
        classes = judge.gallery_classes if gallery_rows is None else judge.gallery_classes[gallery_rows]
        relevant = classes.int()[order] == judge.query_classes[query_rows].int()[:, None]
        values[query_rows] = average_precision_of(Judged.of_one_group(relevant, judge.total[query_rows]))
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
