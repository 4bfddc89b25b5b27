"""Ranking: the value that every search gives and every re-ranker takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ipad_rerank.search.vectors import Array, in_kind, positive_int


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

    indices: Array
    scores: Array

    def __post_init__(self) -> None:
        if isinstance(self.indices, list) or isinstance(self.scores, list):
            object.__setattr__(self, "indices", np.asarray(self.indices))
            object.__setattr__(self, "scores", np.asarray(self.scores))
        indices, scores = self.indices, self.scores
        is_torch = isinstance(indices, torch.Tensor)
        if is_torch != isinstance(scores, torch.Tensor):
            raise TypeError(
                f"indices and scores must both be numpy or both torch, got {type(indices)}, {type(scores)}"
            )
        if indices.ndim != 2 or tuple(indices.shape) != tuple(scores.shape):
            raise ValueError(
                f"indices and scores must both have shape (Q, k), got {tuple(indices.shape)}, {tuple(scores.shape)}"
            )
        if _kind(indices) not in "iu":
            raise TypeError(f"indices must be whole numbers, got {indices.dtype}")
        if _kind(scores) != "f":
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
        return Ranking(in_kind(indices, self.indices), in_kind(scores, self.indices))

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


def _kind(array: Array) -> str:
    """numpy's letter for the kind of its numbers: i and u whole, f floats, b truth values."""
    if isinstance(array, torch.Tensor):
        return "f" if array.is_floating_point() else "b" if array.dtype == torch.bool else "i"
    return array.dtype.kind


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
