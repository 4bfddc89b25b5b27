"""Database-side augmentation: replace each gallery vector by a weighted mean with its neighbours, then search.

References:
    Arandjelovic and Zisserman 2012, "Three things everyone should know to improve object retrieval". The weights are
    those of alpha query expansion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank._arrays import Vectors, compute_dtype, positive_int
from ipad_rerank._topk import stable_topk
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._neighbors import Neighbors, gallery_neighbors
from ipad_rerank.rerankers._refine import batches, refine_candidates, refine_ranking, vectors_of


@dataclass(frozen=True)
class DatabaseAugmentation:
    """New gallery vector = ``g + sum over its k nearest others h of max(0, cos(g, h))^alpha * h``, at unit length.

    It costs one search of the gallery in itself, which does not depend on the queries: keep the result of
    :meth:`augment` where the gallery is searched again and again. A zero vector stays one.

    Args:
        k: Neighbours that pull.
        alpha: Exponent of the weights; 0 weighs all k the same.
        restrict_to: None augments the whole gallery; a number augments each query's first candidates by each other and
            re-orders these.
    """

    k: int = 10
    alpha: float = 3.0
    restrict_to: int | None = None

    def __post_init__(self) -> None:
        positive_int(self.k, "k")
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be 0 or more, got {self.alpha}")
        if self.restrict_to is not None:
            positive_int(self.restrict_to, "restrict_to")

    def augment(self, gallery: Any, neighbors: Neighbors | None = None, batch_size: int | None = None) -> Any:
        """New unit gallery ``(G, D)`` of the gallery's kind."""
        items = Vectors(gallery, "gallery")
        neighbors = gallery_neighbors(gallery, self.k, batch_size) if neighbors is None else neighbors.top(self.k)
        dtype, device = compute_dtype(items), items.device
        moved = torch.empty(len(items), items.dim, dtype=dtype, device=device)
        for rows in batches(len(items), self.k, items.dim, 0, dtype, device, batch_size):
            own = items.unit(rows.start, rows.stop, dtype, device)
            near = items.take(neighbors.indices[rows], dtype, device)
            weights = neighbors.cosine[rows].to(device, dtype).clamp(0, 1) ** self.alpha
            pulled = own + torch.einsum("bk,bkd->bd", weights, near)
            moved[rows] = F.normalize(pulled.masked_fill((own == 0).all(1, keepdim=True), 0.0), dim=1)
        return items.in_kind(moved)

    def rerank(
        self,
        query: Any,
        gallery: Any,
        ranking: Ranking,
        batch_size: int | None = None,
        neighbors: Neighbors | None = None,
    ) -> Ranking:
        """Search the augmented gallery, or re-order the candidates where ``restrict_to`` is set."""
        if self.restrict_to is not None:
            return refine_ranking(self._refine, query, gallery, ranking, self.restrict_to, 6, batch_size)
        queries, items = vectors_of(query, gallery)
        ranking.check_gallery(len(queries), len(items))
        moved = self.augment(gallery, neighbors, batch_size)
        indices, scores = rank(query, moved, k=ranking.k, batch_size=batch_size).tensors()
        return ranking.like(indices, scores)

    def rerank_candidates(
        self, query: Any, candidates: Any, gallery_size: int | None = None, batch_size: int | None = None
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; ``gallery_size`` is taken for the common call shape only."""
        return refine_candidates(self._refine, query, candidates, 6, batch_size)

    def _refine(self, own: Tensor, candidates: Tensor) -> Tensor:
        cosine = torch.bmm(candidates, candidates.mT).clamp_(-1, 1)  # (B, n, n)
        cosine.diagonal(dim1=1, dim2=2).fill_(-2)
        best, near = stable_topk(cosine.flatten(0, 1), max(1, min(self.k, cosine.shape[1] - 1)))
        weights = torch.zeros_like(cosine).flatten(0, 1).scatter_(1, near, best.clamp(0, 1) ** self.alpha)
        weights = weights.view_as(cosine)
        moved = F.normalize(candidates + torch.bmm(weights, candidates), dim=2)
        return torch.einsum("bd,bkd->bk", own, moved).clamp(-1, 1)
