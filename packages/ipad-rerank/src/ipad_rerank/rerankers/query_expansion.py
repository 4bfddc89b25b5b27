"""Query expansion: move each query towards its best candidates and search again.

References:
    Chum et al. 2007, "Total recall" (average). Radenovic et al. 2019, "Fine-tuning CNN image retrieval with no human
    annotation" (alpha-weighted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank._arrays import compute_dtype, positive_int
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._refine import (
    batches,
    by_cosine,
    candidates_of,
    refine_candidates,
    refine_ranking,
    vectors_of,
    work_device,
)


class QueryExpansion:
    """What the two expansions share: how queries are moved, and what is done with the moved ones."""

    k: int
    restrict_to: int | None

    def __post_init__(self) -> None:
        positive_int(self.k, "k")
        if self.restrict_to is not None:
            positive_int(self.restrict_to, "restrict_to")

    def expand(self, query: Any, gallery: Any, ranking: Ranking, batch_size: int | None = None) -> Any:
        """New unit queries ``(Q, D)``, of the query's kind; float64 where both inputs are, else float32."""
        queries, items = vectors_of(query, gallery)
        ranking.check_gallery(len(queries), len(items))
        head = ranking.tensors()[0][:, : self.k]
        dtype, device = compute_dtype(queries, items), work_device(queries, items)
        moved = torch.empty(len(queries), queries.dim, dtype=dtype, device=device)
        for rows in batches(len(queries), head.shape[1], queries.dim, 0, dtype, device, batch_size):
            own = queries.unit(rows.start, rows.stop, dtype, device)
            moved[rows] = self._move(own, items.take(head[rows], dtype, device))
        return queries.in_kind(moved)

    def expand_candidates(
        self, query: Any, candidates: Any, ranking: Ranking | None = None, batch_size: int | None = None
    ) -> Any:
        """As :meth:`expand` where each query has a gallery of its own, ``candidates (Q, k, D)`` in any order.

        The best are those of ``ranking``, whose indices are columns, or by cosine without it.
        """
        queries, items = candidates_of(query, candidates)
        if ranking is not None:
            ranking.check_gallery(len(queries), items.shape[1])
        dtype, device = compute_dtype(queries, items), work_device(queries, items)
        moved = torch.empty(len(queries), queries.dim, dtype=dtype, device=device)
        for rows in batches(len(queries), items.shape[1], queries.dim, 0, dtype, device, batch_size):
            if ranking is None:
                own, best, _ = by_cosine(queries, items, rows, dtype, device, self.k)
            else:
                columns = ranking.tensors()[0][rows, : self.k, None].to(device)
                own = queries.unit(rows.start, rows.stop, dtype, device)
                best = items.unit(rows.start, rows.stop, dtype, device).take_along_dim(columns, dim=1)
            moved[rows] = self._move(own, best)
        return queries.in_kind(moved)

    def rerank(self, query: Any, gallery: Any, ranking: Ranking, batch_size: int | None = None) -> Ranking:
        """Search again with the expanded queries, or re-order the candidates where ``restrict_to`` is set."""
        if self.restrict_to is not None:
            return refine_ranking(self._refine, query, gallery, ranking, self.restrict_to, 0, batch_size)
        moved = self.expand(query, gallery, ranking, batch_size)
        indices, scores = rank(moved, gallery, k=ranking.k, batch_size=batch_size).tensors()
        return ranking.like(indices, scores)

    def rerank_candidates(
        self, query: Any, candidates: Any, gallery_size: int | None = None, batch_size: int | None = None
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; ``gallery_size`` is taken for the common call shape only."""
        return refine_candidates(self._refine, query, candidates, 0, batch_size)

    def _move(self, own: Tensor, best: Tensor) -> Tensor:
        """Unit ``own (B, D)`` and ``best (B, k, D)`` -> ``(B, D)``."""
        weights = self._weights(torch.einsum("bd,bkd->bk", own, best))
        moved = own + torch.einsum("bk,bkd->bd", weights, best)
        return F.normalize(moved.masked_fill((own == 0).all(1, keepdim=True), 0.0), dim=1)

    def _weights(self, cosine: Tensor) -> Tensor:
        raise NotImplementedError

    def _refine(self, own: Tensor, candidates: Tensor) -> Tensor:
        moved = self._move(own, candidates[:, : self.k])
        return torch.einsum("bd,bkd->bk", moved, candidates).clamp(-1, 1)


@dataclass(frozen=True)
class AlphaQueryExpansion(QueryExpansion):
    """New query = ``q + sum over the k best candidates g of max(0, cos(q, g))^alpha * g``, at unit length.

    The candidates are those of the ranking given, in its order; the weights are cosines, whatever its scores are. A
    query that is a zero vector stays one. k above the ranking's k is no error: all of them are taken.

    Args:
        k: Candidates that pull; with hundreds of relevant items per query 50 to 200 is better than the usual 10.
        alpha: Exponent of the weights; 0 weighs all k the same.
        restrict_to: None searches the whole gallery again; a number only re-orders that many of the candidates.

    Example:
        >>> expansion = AlphaQueryExpansion(k=1, alpha=1.0)
        >>> ranking = rank([[1.0, 0.0]], [[0.6, 0.8]])
        >>> expansion.expand([[1.0, 0.0]], [[0.6, 0.8]], ranking).round(3).tolist()  # (1, 0) + 0.6 * (0.6, 0.8)
        [[0.943, 0.333]]
    """

    k: int = 50
    alpha: float = 3.0
    restrict_to: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be 0 or more, got {self.alpha}")

    def _weights(self, cosine: Tensor) -> Tensor:
        return cosine.clamp(0, 1) ** self.alpha


@dataclass(frozen=True)
class AverageQueryExpansion(QueryExpansion):
    """New query = mean of the query and its k best candidates, at unit length.

    As :class:`AlphaQueryExpansion` with equal weights.

    Args:
        k: Candidates that pull.
        restrict_to: None searches the whole gallery again; a number only re-orders that many of the candidates.
    """

    k: int = 10
    restrict_to: int | None = None

    def _weights(self, cosine: Tensor) -> Tensor:
        return torch.ones_like(cosine)
