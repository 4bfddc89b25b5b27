"""Query expansion: move each query towards its best candidates and search again.

References:
    Chum et al. 2007, "Total recall" (average). Radenovic et al. 2019, "Fine-tuning CNN image retrieval with no human
    annotation" (alpha-weighted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank.rerankers.plain import Grid, PlainReranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.rerankers.shortlist import Shortlist
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike


class QueryExpansion(PlainReranker):
    """What the two expansions share: how queries are moved, and what is done with the moved ones."""

    sizes = ("k",)
    k: int
    alpha: float = 0.0

    def expand(self, query: ArrayLike, gallery: ArrayLike, ranking: Ranking, batch_size: int | None = None) -> Array:
        """New unit queries ``(Q, D)``, of the query's kind; float64 where both inputs are, else float32.

        The gallery is ``(G, D)``, or ``(Q, n, D)`` where each query has candidates of its own.
        """
        each = np.ndim(gallery) == 3
        return self._expand(Retrieval(query, gallery, ranking, own_galleries=each, options=Options(batch_size)))

    def search(self, asked: Retrieval) -> Ranking:
        """Search again with the expanded queries."""
        return asked.in_kind(*asked.moved(query=self._expand(asked)).ranking.tensors())

    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        moved = moved_towards(query, candidates[:, : self.k], self.alpha)
        return torch.einsum("bd,bkd->bk", moved, candidates).clamp(-1, 1)

    def _expand(self, asked: Retrieval) -> Array:
        best = Shortlist(asked, self.k)
        numbers = (asked.items.shape[-2] if asked.own_galleries else best.head) * (4 * asked.items.dim + 8)
        moved = [moved_towards(*best.batch(rows), self.alpha) for rows in asked.batches(numbers)]
        return asked.queries.in_kind(torch.cat(moved))


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

    grid: ClassVar[Grid] = {"k": (5, 10, 20, 50, 100, 200), "alpha": (0, 1, 3, 5)}
    ranges: ClassVar[dict[str, str]] = {"alpha": "[0, inf)"}

    k: int = 50
    alpha: float = 3.0
    restrict_to: int | None = None


@dataclass(frozen=True)
class AverageQueryExpansion(QueryExpansion):
    """New query = mean of the query and its k best candidates, at unit length.

    As :class:`AlphaQueryExpansion` with equal weights.

    Args:
        k: Candidates that pull.
        restrict_to: None searches the whole gallery again; a number only re-orders that many of the candidates.
    """

    grid: ClassVar[Grid] = {"k": (1, 2, 5, 10, 20, 50, 100, 200)}

    k: int = 10
    restrict_to: int | None = None


def moved_towards(unit: Tensor, best: Tensor, alpha: float) -> Tensor:
    """``unit (B, D)`` plus each of ``best (B, k, D)`` times ``max(0, cos)^alpha``, at unit length; zero vectors stay."""
    weights = torch.einsum("bd,bkd->bk", unit, best).clamp(0, 1) ** alpha  # all 1 where alpha is 0
    moved = unit + torch.einsum("bk,bkd->bd", weights, best)
    return F.normalize(moved.masked_fill((unit == 0).all(1, keepdim=True), 0.0), dim=1)
