"""Nearest neighbors of a gallery within itself, found in chunks."""

from __future__ import annotations

import torch

from ipad_rerank.search.cosine import rank
from ipad_rerank.search.memory import batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, Vectors


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
