"""Nearest neighbors of a gallery within itself, found in chunks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ipad_rerank.search.cosine import rank
from ipad_rerank.search.memory import rows_that_fit
from ipad_rerank.search.vectors import ArrayLike, Vectors


@dataclass(frozen=True)
class Neighbors:
    """``indices (G, k)`` and ``cosine (G, k)`` of each gallery row's nearest other rows, best first."""

    indices: Tensor
    cosine: Tensor

    def top(self, k: int) -> Neighbors:
        """The best k of every row."""
        return Neighbors(self.indices[:, :k], self.cosine[:, :k])


def gallery_neighbors(gallery: ArrayLike, k: int, batch_size: int | None = None) -> Neighbors:
    """The k nearest others of each gallery row by cosine, itself left out; k is limited to G - 1.

    Compute it once and hand it to several calls of ``rerank`` that take ``neighbors``.
    """
    items = Vectors(gallery, "gallery")
    step = rows_that_fit(16 * items.dim, items.device)
    for start in range(0, len(items), step):
        items.unit(start, min(start + step, len(items)))  # else bad values would be reported as the query's
    found = rank(gallery, gallery, k=k + 1, batch_size=batch_size)
    indices, cosine = found.tensors()
    itself = torch.arange(len(indices), device=indices.device)[:, None]
    drop = indices == itself
    drop[:, -1] |= ~drop.any(1)  # among many duplicates a row may not find itself: then its last one goes
    shape = (len(indices), indices.shape[1] - 1)
    return Neighbors(indices[~drop].reshape(shape), cosine[~drop].reshape(shape))
