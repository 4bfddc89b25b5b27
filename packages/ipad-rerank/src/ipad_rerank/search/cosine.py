"""Exact search by cosine similarity, the gallery read in chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.search.memory import batches, free_memory, slices, work_budget
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import merged_topk
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE, ArrayLike, Vectors, pair_of, positive_int

ALIGN = 64


def aligned(unit: Tensor) -> Tensor:
    """``(N, D)`` with rows of zeros behind it up to a multiple of 64.

    A matrix product treats a last, incomplete tile otherwise than the rest: without them, equal vectors would not
    always get bit-equal scores.
    """
    missing = -len(unit) % ALIGN
    return torch.cat([unit, unit.new_zeros(missing, unit.shape[1])]) if missing else unit


def unit_cosine(query: Tensor, block: Tensor) -> Tensor:
    """``(B, n)`` cosines of unit vectors ``(B, D)`` and ``(n, D)``; a zero vector of the block scores -2, below all."""
    scores = (query @ aligned(block).T)[:, : len(block)].clamp_(-1, 1)
    zero = (block == 0).all(1)
    if bool(zero.any()):
        scores[:, zero] = ZERO_VECTOR_SCORE
    return scores


def own_cosine(query: Tensor, items: Tensor) -> Tensor:
    """As :func:`unit_cosine`, where each query has vectors of its own: ``(B, D)``, ``(B, n, D)`` -> ``(B, n)``."""
    cosine = (items * query[:, None]).sum(-1).clamp_(-1, 1)
    return cosine.masked_fill_((items == 0).all(-1), ZERO_VECTOR_SCORE)


def padded_cosine(query: Tensor, items: Vectors, rows: Tensor | None = None) -> Tensor:
    """:func:`unit_cosine` to all ``items``, or those at ``rows``, read in chunks."""
    count = len(items) if rows is None else len(rows)
    scores = query.new_empty(len(query), count)
    step = max(ALIGN, work_budget(query.device) // (4 * 32 * items.dim) // ALIGN * ALIGN)
    for part in slices(count, step):
        block = items.unit(part if rows is None else rows[part], query.dtype, query.device)
        scores[:, part] = unit_cosine(query, block)
    return scores


def rank(
    query: ArrayLike,
    gallery: ArrayLike,
    k: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Ranking:
    """The k gallery rows of highest cosine similarity for each query, exactly, in chunks.

    Equal scores keep the gallery's order (lowest row first). A zero vector in the gallery ranks last with score -2;
    for a zero query all other scores are 0. The gallery may be a ``numpy.memmap``, read once per batch of queries.

    Args:
        query: ``(Q, D)`` numpy array, torch tensor or lists; need not be unit length.
        gallery: ``(G, D)``.
        k: How many to keep; None keeps all, and a k above G gives G.
        batch_size: Queries at a time; by default from free memory.
        progress: Show a bar; by default on a terminal.

    Returns:
        Ranking of ``query``'s kind; scores are cosines in float64 where both inputs are float64, else float32.

    Raises:
        ValueError: empty input, NaN or infinite values, different D, k or batch_size below 1.
        MemoryError: the ranking itself does not fit into what is free.

    Example:
        >>> rank([[1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]).indices.tolist()
        [[1, 0]]
    """
    queries, items, dtype, device = pair_of(query, gallery)
    k = len(items) if k is None else min(positive_int(k, "k"), len(items))
    size = dtype.itemsize
    needed, free = len(queries) * k * (size + 8), free_memory(device)
    if needed > free:
        raise MemoryError(
            f"a ranking of {k} for each of {len(queries)} queries takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free; ask for a smaller k, or for fewer queries at a time"
        )
    if batch_size is not None:
        positive_int(batch_size, "batch_size")
    parts = batches(len(queries), 8 * (size + 8) * k, device, batch_size, most=1024)
    budget = work_budget(device) // 2
    per_row = size * (3 * items.dim + 6 * parts[0].stop)  # a chunk of vectors with its copies, and its scores
    chunk = max(ALIGN, min(len(items), max(budget // per_row, 2 * k if 2 * k * per_row < 4 * budget else 0)))
    chunk = -(-chunk // ALIGN) * ALIGN
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=device)
    scores = torch.empty(len(queries), k, dtype=dtype, device=device)
    pieces = [(rows, first) for rows in parts for first in range(0, len(items), chunk)]
    for rows, first in progress_over(pieces, "Searching", progress):
        if first == 0:
            part, best = queries.unit(rows, dtype, device), None
        block = items.unit(slice(first, first + chunk), dtype, device)
        best = merged_topk(best, unit_cosine(part, block), first, k)
        if first + chunk >= len(items):
            scores[rows], indices[rows] = best
    return Ranking(queries.in_kind(indices), queries.in_kind(scores))


def gallery_neighbors(gallery: ArrayLike, k: int) -> Ranking:
    """The k nearest others of each gallery row by cosine, itself left out; k is limited to G - 1.

    Compute it once and hand it to several calls of ``rerank`` that take ``neighbors``.
    """
    items = Vectors(gallery, "gallery")
    for rows in batches(len(items), 16 * items.dim, items.device):
        items.unit(rows)  # else bad values would be reported as the query's
    found = rank(gallery, gallery, k=k + 1)
    indices, cosine = found.tensors()
    drop = indices == torch.arange(len(indices), device=indices.device)[:, None]
    drop[:, -1] |= ~drop.any(1)  # among many duplicates a row may not find itself: then its last one goes
    return found.like(indices[~drop].reshape(len(indices), -1), cosine[~drop].reshape(len(indices), -1))
