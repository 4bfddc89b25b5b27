"""Mean AP of a whole retrieval, straight from vectors, without ever holding a query-by-gallery matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ipad_rerank.metrics.average_precision import full_average_precision
from ipad_rerank.metrics.relevance import Judge, NoRelevant, without_relevant
from ipad_rerank.metrics.summary import Averaging, average
from ipad_rerank.search.cosine import padded_cosine, unit_cosine
from ipad_rerank.search.groups import ALL, searches
from ipad_rerank.search.memory import work_budget
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.topk import stable_order
from ipad_rerank.search.vectors import Array, ArrayLike, Vectors, compute_dtype, pair_of, positive_int, work_device

_BYTES = 40  # that one item of the gallery takes for each query of a batch: score, sort key, class, place
_CHUNK = 4096


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
    searched = _Gallery(items, dtype, device)
    for query_rows, gallery_rows in progress_over(batches, len(batches), "Evaluating", progress):
        scores = searched.cosine(queries.take(query_rows, dtype, device), gallery_rows)
        order = stable_order(scores).cpu()
        classes = judge.gallery_classes if gallery_rows is None else judge.gallery_classes[gallery_rows]
        relevant = classes.int()[order] == judge.query_classes[query_rows].int()[:, None]
        values[query_rows] = full_average_precision(relevant, judge.total[query_rows])
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


class _Gallery:
    """The part of the gallery that is searched, at unit length: kept from batch to batch where it fits, else read anew."""

    def __init__(self, items: Vectors, dtype: torch.dtype, device: torch.device) -> None:
        self._items, self._dtype, self._device = items, dtype, device
        self._rows: Tensor | None = None
        self._unit: Tensor | None = None

    def cosine(self, query: Tensor, rows: Tensor | None) -> Tensor:
        """``(B, n)`` of unit queries ``(B, D)`` and the gallery's ``rows (n,)``, or all."""
        count = len(self._items) if rows is None else len(rows)
        if 2 * count * self._items.dim * query.element_size() > work_budget(self._device):
            return padded_cosine(query, self._items, rows)
        if self._unit is None or self._rows is not rows:
            self._unit = query.new_empty(count, self._items.dim)
            for start in range(0, count, _CHUNK):
                stop = min(start + _CHUNK, count)
                where = torch.arange(start, stop) if rows is None else rows[start:stop]
                self._unit[start:stop] = self._items.take(where, self._dtype, self._device)
            self._rows = rows
        return unit_cosine(query, self._unit)


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
        step = batch_size or max(1, min(1024, work_budget(device) // (_BYTES * count + 8 * dim)))
        for start in range(0, len(asked), step):
            yield asked[start : start + step], found
