"""Ranking, the value that everything here takes and gives, and rank, the exact cosine search that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors, compute_dtype, positive_int
from ipad_rerank._cosine import ALIGN, aligned
from ipad_rerank._memory import free_memory, work_budget
from ipad_rerank._progress import progress_over
from ipad_rerank._topk import stable_topk, topk_above


@dataclass(frozen=True, eq=False)
class Ranking:
    """For each query its best gallery rows, best first.

    Args:
        indices: ``(Q, k)`` int64 rows of the gallery, distinct within a row; numpy or torch.
        scores: ``(Q, k)`` float, of the same kind, descending within a row; larger is better.

    Raises:
        ValueError: shapes differ or are not ``(Q, k)``; a negative or repeated index; scores not descending or NaN.
        TypeError: indices are not whole numbers, scores are not floats, or one is numpy and the other torch.
    """

    indices: Any
    scores: Any

    def __post_init__(self) -> None:
        if isinstance(self.indices, list) or isinstance(self.scores, list):
            object.__setattr__(self, "indices", np.asarray(self.indices))
            object.__setattr__(self, "scores", np.asarray(self.scores))
        indices, scores = self.indices, self.scores
        if isinstance(indices, torch.Tensor) != isinstance(scores, torch.Tensor):
            raise TypeError(
                f"indices and scores must both be numpy or both torch, got {type(indices)}, {type(scores)}"
            )
        if indices.ndim != 2 or tuple(indices.shape) != tuple(scores.shape):
            raise ValueError(
                f"indices and scores must both have shape (Q, k), got {tuple(indices.shape)}, {tuple(scores.shape)}"
            )
        is_torch = isinstance(indices, torch.Tensor)
        whole = (
            not (indices.is_floating_point() or indices.dtype == torch.bool)
            if is_torch
            else indices.dtype.kind in "iu"
        )
        real = scores.is_floating_point() if is_torch else scores.dtype.kind == "f"
        if not whole:
            raise TypeError(f"indices must be whole numbers, got {indices.dtype}")
        if not real:
            raise TypeError(f"scores must be floats, got {scores.dtype}")
        if str(indices.dtype).split(".")[-1] != "int64":
            object.__setattr__(self, "indices", indices.long() if is_torch else indices.astype(np.int64))
        self._check_rows()

    def _check_rows(self) -> None:
        indices, scores = self.tensors()
        if indices.numel() == 0:
            return
        if not bool((scores[:, :-1] >= scores[:, 1:]).all()) or bool(torch.isnan(scores[:, 0]).any()):
            raise ValueError("scores must descend within each row and hold no NaN")
        if int(indices.min()) < 0:
            raise ValueError(f"indices must be rows of the gallery (0 or more), got {int(indices.min())}")
        if _repeats(indices):
            raise ValueError("indices must not repeat within a row")

    def __len__(self) -> int:
        return self.indices.shape[0]

    @property
    def k(self) -> int:
        return self.indices.shape[1]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``(indices, scores)`` as torch tensors; numpy input is shared where it is writeable, else copied."""
        if isinstance(self.indices, torch.Tensor):
            return self.indices, self.scores
        return _tensor(self.indices), _tensor(self.scores)

    def like(self, indices: torch.Tensor, scores: torch.Tensor) -> Ranking:
        """A ranking of these tensors, of this one's kind and device."""
        if isinstance(self.indices, torch.Tensor):
            return Ranking(indices.to(self.indices.device), scores.to(self.indices.device))
        return Ranking(indices.cpu().numpy(), scores.cpu().numpy())

    def top(self, k: int) -> Ranking:
        """The best k of every row."""
        k = positive_int(k, "k")
        return Ranking(self.indices[:, :k], self.scores[:, :k])

    def check_gallery(self, num_queries: int, num_gallery: int) -> None:
        """Raise ValueError unless this ranking has ``num_queries`` rows with indices below ``num_gallery``."""
        if len(self) != num_queries:
            raise ValueError(f"ranking has {len(self)} rows, query has {num_queries}; they must be equal")
        if self.k and int(self.indices.max()) >= num_gallery:
            raise ValueError(f"ranking has index {int(self.indices.max())}, gallery has {num_gallery} rows only")


def rank(
    query: Any, gallery: Any, k: int | None = None, batch_size: int | None = None, progress: bool | None = None
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
    queries = Vectors(query, "query")
    items = Vectors(gallery, "gallery", dim=queries.dim)
    k = len(items) if k is None else min(positive_int(k, "k"), len(items))
    dtype = compute_dtype(queries, items)
    device = items.device if items.device.type != "cpu" else queries.device
    size = 8 if dtype == torch.float64 else 4
    needed, free = len(queries) * k * (size + 8), free_memory(device)
    if needed > free:
        raise MemoryError(
            f"a ranking of {k} for each of {len(queries)} queries takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free; ask for a smaller k, or for fewer queries at a time"
        )
    budget = work_budget(device) // 2
    if batch_size is None:
        batch_size = max(1, min(len(queries), 1024, budget // (4 * (size + 8) * max(k, 1))))
    batch_size = min(positive_int(batch_size, "batch_size"), len(queries))
    per_row = size * (3 * items.dim + 6 * batch_size)  # a chunk of vectors with its copies, and its scores
    chunk = max(ALIGN, min(len(items), max(budget // per_row, 2 * k if 2 * k * per_row < 4 * budget else 0)))
    chunk = -(-chunk // ALIGN) * ALIGN
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=device)
    scores = torch.empty(len(queries), k, dtype=dtype, device=device)
    pieces = [(start, first) for start in range(0, len(queries), batch_size) for first in range(0, len(items), chunk)]
    for start, first in progress_over(pieces, len(pieces), "Searching", progress):
        rows = slice(start, min(start + batch_size, len(queries)))
        if first == 0:
            part, best = queries.unit(rows.start, rows.stop, dtype, device), None
        best = _search(part, items, slice(first, min(first + chunk, len(items))), k, best)
        if first + chunk >= len(items):
            scores[rows], indices[rows] = best
    return Ranking(queries.in_kind(indices), queries.in_kind(scores))


def _search(
    query: torch.Tensor, items: Vectors, rows: slice, k: int, best: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The top k of ``rows`` and of the ``best`` of the rows before them: scores and gallery rows."""
    block = items.unit(rows.start, rows.stop, query.dtype, query.device)
    zero = (block == 0).all(1)
    scores = (query @ aligned(block).T)[:, : len(block)].clamp_(-1, 1)
    if bool(zero.any()):
        scores[:, zero] = ZERO_VECTOR_SCORE
    if best is None:
        return stable_topk(scores, k)
    full = best[0].shape[1] == k  # then what is not above the k-th best cannot come in
    scores, columns = topk_above(scores, best[0][:, -1:], k) if full else stable_topk(scores, k)
    # The best ones stand first and have lower rows, so a stable merge keeps the gallery's order among ties.
    scores, kept = stable_topk(torch.cat([best[0], scores], dim=1), k)
    return scores, torch.cat([best[1], columns + rows.start], dim=1).gather(1, kept)


def _repeats(indices: torch.Tensor) -> bool:
    """Does any row of ``(Q, k)`` hold a number twice?"""
    span = int(indices.max()) + 1
    on_cpu = indices.device.type == "cpu"
    if not on_cpu or span > 8 * indices.shape[1]:  # few of many
        ordered = torch.from_numpy(np.sort(indices.numpy(), axis=1)) if on_cpu else indices.sort(dim=1).values
        return bool((ordered[:, 1:] == ordered[:, :-1]).any())
    step = max(1, (4 << 20) // span)
    seen = torch.empty(min(step, len(indices)), span, dtype=torch.bool, device=indices.device)
    for part in indices.split(step):
        marks = seen[: len(part)].zero_().scatter_(1, part, True)
        if int(marks.sum()) != part.numel():
            return True
    return False


def _tensor(array: np.ndarray) -> torch.Tensor:
    fine = array.flags.writeable and all(stride >= 0 for stride in array.strides) and array.dtype.byteorder in "=|<"
    return torch.from_numpy(array if fine else np.ascontiguousarray(array).copy())
