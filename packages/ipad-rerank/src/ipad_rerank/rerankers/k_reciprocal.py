"""k-reciprocal re-ranking, exact over the whole gallery without a gallery-by-gallery matrix, or on a shortlist.

References:
    Zhong et al. 2017, "Re-ranking person re-identification with k-reciprocal encoding". Where paper and the authors'
    code differ we follow the code, which everyone compares with: distances are divided by the largest one of their
    row, neighbour lists hold k + 1 entries with the vector itself, and half of k1 is rounded to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ipad_rerank._arrays import Vectors, positive_int
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._dense_reciprocal import refine_by_reciprocity
from ipad_rerank.rerankers._neighborhoods import find_neighborhoods, joint_unit
from ipad_rerank.rerankers._reciprocal import encode
from ipad_rerank.rerankers._reciprocal_search import search_reciprocal
from ipad_rerank.rerankers._refine import refine_candidates, refine_ranking, vectors_of

_DENSE_COST = 16  # n by n matrices that a shortlist of n holds at a time


@dataclass(frozen=True)
class KReciprocal:
    """Rank by the overlap of k-reciprocal neighbour sets, blended with the distance.

    ``d*(q, g) = (1 - lambda) * Jaccard(V_q, V_g) + lambda * d(q, g)``; the scores returned are ``1 - d*``.

    The defaults are the authors', for data with a handful of positives per query. With hundreds they do worse than
    nothing: let ``tune`` choose.

    Args:
        k1: Neighbours whose reciprocity is asked for.
        k2: Neighbours (the vector itself is one) over which encodings are averaged; 1 averages nothing.
        lambda_value: Weight of the distance, within [0, 1]. At 0, equal scores are told apart by cosine.
        restrict_to: None works on query set and gallery together, as published; a number re-orders that many of each
            query's candidates, with neighbours looked for among the query and these only.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    restrict_to: int | None = None

    def __post_init__(self) -> None:
        positive_int(self.k1, "k1")
        positive_int(self.k2, "k2")
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"lambda_value must be within [0, 1], got {self.lambda_value}")
        if self.restrict_to is not None:
            positive_int(self.restrict_to, "restrict_to")

    def rerank(
        self, query: Any, gallery: Any, ranking: Ranking, batch_size: int | None = None, progress: bool | None = None
    ) -> Ranking:
        """A new ranking of the same k over the whole gallery, or the candidates re-ordered with ``restrict_to``."""
        if self.restrict_to is not None:
            return refine_ranking(self._refine, query, gallery, ranking, self.restrict_to, _DENSE_COST, batch_size)
        queries, items = vectors_of(query, gallery)
        ranking.check_gallery(len(queries), len(items))
        indices, scores = self._search(queries, items, ranking.k, batch_size, progress)
        return ranking.like(indices, scores)

    def rerank_candidates(
        self, query: Any, candidates: Any, gallery_size: int | None = None, batch_size: int | None = None
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; ``gallery_size`` is taken for the common call shape only."""
        return refine_candidates(self._refine, query, candidates, _DENSE_COST, batch_size)

    def _search(
        self, queries: Vectors, items: Vectors, k: int, batch_size: int | None, progress: bool | None
    ) -> tuple[Tensor, Tensor]:
        around = find_neighborhoods(joint_unit(queries, items), max(self.k1 + 1, self.k2), batch_size, progress)
        encoded = encode(around, self.k1)
        return search_reciprocal(around, len(queries), encoded, self.k2, [self.lambda_value], k, progress)[0]

    def _refine(self, own: Tensor, candidates: Tensor) -> Tensor:
        return refine_by_reciprocity(own, candidates, self.k1, self.k2, self.lambda_value)


def k_reciprocal(
    query: Any,
    gallery: Any,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    k: int | None = None,
    *,
    restrict_to: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Ranking:
    """Rank the gallery by k-reciprocal distance: see :class:`KReciprocal`.

    Exact: the published result, with memory that grows with ``(Q + G) * k1`` and ``Q * k``, and time with
    ``(Q + G)^2`` (every vector looks for its neighbours). With ``restrict_to``, the cosine ranking's first candidates
    are re-ordered by the same mathematics on each shortlist, in time that grows with ``Q * restrict_to^2``.

    Args:
        query: ``(Q, D)`` numpy array, torch tensor or lists; need not be unit length.
        gallery: ``(G, D)``.
        k1: Neighbours whose reciprocity is asked for.
        k2: Neighbours over which encodings are averaged.
        lambda_value: Weight of the distance.
        k: Length of the lists; None keeps the whole gallery.
        restrict_to: How many candidates to re-order; None for the whole gallery.
        batch_size: Rows at a time in the neighbour search; by default from free memory.
        progress: Show a bar; by default on a terminal.

    Returns:
        Ranking of the query's kind; scores are ``1 - d*``. Zero vectors of the gallery come last.
    """
    reranker = KReciprocal(k1, k2, lambda_value, restrict_to)
    queries, items = vectors_of(query, gallery)
    k = len(items) if k is None else min(positive_int(k, "k"), len(items))
    if restrict_to is not None:
        return reranker.rerank(query, gallery, rank(query, gallery, k, batch_size), batch_size)
    indices, scores = reranker._search(queries, items, k, batch_size, progress)
    return Ranking(queries.in_kind(indices), queries.in_kind(scores))
