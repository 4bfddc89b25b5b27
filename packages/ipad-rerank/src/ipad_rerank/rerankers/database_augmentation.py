"""Database-side augmentation: replace each gallery vector by a weighted mean with its neighbors, then search.

References:
    Arandjelovic and Zisserman 2012, "Three things everyone should know to improve object retrieval". The weights are
    those of alpha query expansion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank.rerankers.plain import Grid, PlainReranker
from ipad_rerank.rerankers.query_expansion import moved_towards
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.search.cosine import gallery_neighbors
from ipad_rerank.search.memory import batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import stable_topk
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE, Array, ArrayLike, Vectors


@dataclass(frozen=True)
class DatabaseAugmentation(PlainReranker):
    """New gallery vector = ``g + sum over its k nearest others h of max(0, cos(g, h))^alpha * h``, at unit length.

    It costs one search of the gallery in itself, which does not depend on the queries: keep the result of
    :meth:`augment` where the gallery is searched again and again. A zero vector stays one.

    Args:
        k: Neighbors that pull.
        alpha: Exponent of the weights; 0 weighs all k the same.
        restrict_to: None augments the whole gallery; a number augments each query's first candidates by each other and
            re-orders these.
    """

    grid: ClassVar[Grid] = {"k": (2, 5, 10, 20, 50, 100), "alpha": (0, 1, 3)}
    sizes = ("k",)
    ranges: ClassVar[dict[str, str]] = {"alpha": "[0, inf)"}
    pair_cost = 6

    k: int = 10
    alpha: float = 3.0
    restrict_to: int | None = None

    def augment(self, gallery: ArrayLike, neighbors: Ranking | None = None) -> Array:
        """New unit gallery ``(G, D)`` of the gallery's kind."""
        items = Vectors(gallery, "gallery")
        neighbors = gallery_neighbors(gallery, self.k) if neighbors is None else neighbors.top(self.k)
        indices, _ = neighbors.tensors()
        dtype, device = items.dtype, items.device
        moved = torch.empty(len(items), items.dim, dtype=dtype, device=device)
        for rows in batches(len(items), dtype.itemsize * self.k * (4 * items.dim + 8), device):
            near = items.unit(indices[rows], dtype, device)
            moved[rows] = moved_towards(items.unit(rows, dtype, device), near, self.alpha)
        return items.in_kind(moved)

    @classmethod
    def shared_work(cls, rerankers: Sequence[DatabaseAugmentation], gallery: ArrayLike) -> dict[str, Ranking]:
        return {"neighbors": gallery_neighbors(gallery, max(reranker.k for reranker in rerankers))}

    def search(self, asked: Retrieval, neighbors: Ranking | None = None) -> Ranking:
        """Search the augmented gallery; ``neighbors`` are those of the gallery, k or more, where the caller has them."""
        moved = asked.moved(gallery=self.augment(asked.gallery, neighbors))
        return asked.in_kind(*moved.ranking.tensors())

    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        cosine = torch.bmm(candidates, candidates.mT).clamp_(-1, 1)  # (B, n, n)
        cosine.diagonal(dim1=1, dim2=2).fill_(ZERO_VECTOR_SCORE)
        best, near = stable_topk(cosine.flatten(0, 1), max(1, min(self.k, cosine.shape[1] - 1)))
        weights = torch.zeros_like(cosine).flatten(0, 1).scatter_(1, near, best.clamp(0, 1) ** self.alpha)
        weights = weights.view_as(cosine)
        moved = F.normalize(candidates + torch.bmm(weights, candidates), dim=2)
        return torch.einsum("bd,bkd->bk", query, moved).clamp(-1, 1)
