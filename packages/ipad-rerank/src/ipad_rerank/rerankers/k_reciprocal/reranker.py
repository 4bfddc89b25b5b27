"""k-reciprocal re-ranking, exact over the whole gallery without a gallery-by-gallery matrix, or on a shortlist.

References:
    Zhong et al. 2017, "Re-ranking person re-identification with k-reciprocal encoding". Where paper and the authors'
    code differ we follow the code, which everyone compares with: distances are divided by the largest one of their
    row, neighbor lists hold k + 1 entries with the vector itself, and half of k1 is rounded to even.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from torch import Tensor

from ipad_rerank.rerankers.k_reciprocal.encoding import encode
from ipad_rerank.rerankers.k_reciprocal.neighborhoods import find_neighborhoods, joint_unit
from ipad_rerank.rerankers.k_reciprocal.on_shortlist import refine_by_reciprocity
from ipad_rerank.rerankers.k_reciprocal.search import search_reciprocal
from ipad_rerank.rerankers.plain import Grid, PlainReranker
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, Vectors, pair_of, positive_int


@dataclass(frozen=True)
class KReciprocal(PlainReranker):
    """Rank by the overlap of k-reciprocal neighbor sets, blended with the distance.

    ``d*(q, g) = (1 - lambda) * Jaccard(V_q, V_g) + lambda * d(q, g)``; the scores returned are ``1 - d*``.

    The defaults are the authors', for data with a handful of positives per query. With hundreds they do worse than
    nothing: let ``tune`` choose.

    Args:
        k1: Neighbors whose reciprocity is asked for.
        k2: Neighbors (the vector itself is one) over which encodings are averaged; 1 averages nothing.
        lambda_value: Weight of the distance, within [0, 1]. At 0, equal scores are told apart by cosine.
        restrict_to: None works on query set and gallery together, as published; a number re-orders that many of each
            query's candidates, with neighbors looked for among the query and these only.
    """

    grid: ClassVar[Grid] = {"k1": (10, 20, 50, 100, 200), "k2": (1, 6, 20, 50), "lambda_value": (0.0, 0.1, 0.3, 0.6)}
    sizes = ("k1", "k2")
    pair_cost = 16

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    restrict_to: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"lambda_value must be within [0, 1], got {self.lambda_value}")

    @property
    def is_sensible(self) -> bool:
        """Averaging over more neighbors than are looked at is not k-reciprocal encoding."""
        return self.k2 <= self.k1

    def search(
        self,
        queries: Vectors,
        items: Vectors,
        ranking: Ranking,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Ranking:
        """On query set and gallery together, as published."""
        return ranking.like(*self._best(queries, items, ranking.k, batch_size, progress))

    @classmethod
    def sweep(
        cls, rerankers: Sequence[KReciprocal], query: ArrayLike, gallery: ArrayLike, ranking: Ranking
    ) -> Iterator[tuple[int, Ranking]]:
        """As in the base class; neighborhoods are found once, encodings of equal k1 and overlaps of equal k2 too."""
        if rerankers[0].restrict_to is not None:
            yield from super().sweep(rerankers, query, gallery, ranking)
            return
        queries, items = pair_of(query, gallery)
        largest = max(max(reranker.k1 + 1, reranker.k2) for reranker in rerankers)
        around = find_neighborhoods(joint_unit(queries, items), largest)
        places = sorted(range(len(rerankers)), key=lambda place: (rerankers[place].k1, rerankers[place].k2))
        for k1, same_k1 in groupby(places, key=lambda place: rerankers[place].k1):
            encoded = encode(around, k1)
            for k2, same_k2 in groupby(same_k1, key=lambda place: rerankers[place].k2):
                group = list(same_k2)
                values = [rerankers[place].lambda_value for place in group]
                found = search_reciprocal(around, len(queries), encoded, k2, values, ranking.k)
                for place, (indices, scores) in zip(group, found, strict=True):
                    yield place, ranking.like(indices, scores)

    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        return refine_by_reciprocity(query, candidates, self.k1, self.k2, self.lambda_value)

    def _best(
        self, queries: Vectors, items: Vectors, k: int, batch_size: int | None, progress: bool | None
    ) -> tuple[Tensor, Tensor]:
        around = find_neighborhoods(joint_unit(queries, items), max(self.k1 + 1, self.k2), batch_size, progress)
        encoded = encode(around, self.k1)
        return search_reciprocal(around, len(queries), encoded, self.k2, [self.lambda_value], k, progress)[0]


def k_reciprocal(
    query: ArrayLike,
    gallery: ArrayLike,
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
    ``(Q + G)^2`` (every vector looks for its neighbors). With ``restrict_to``, the cosine ranking's first candidates
    are re-ordered by the same mathematics on each shortlist, in time that grows with ``Q * restrict_to^2``.

    Args:
        query: ``(Q, D)`` numpy array, torch tensor or lists; need not be unit length.
        gallery: ``(G, D)``.
        k1: Neighbors whose reciprocity is asked for.
        k2: Neighbors over which encodings are averaged.
        lambda_value: Weight of the distance.
        k: Length of the lists; None keeps the whole gallery.
        restrict_to: How many candidates to re-order; None for the whole gallery.
        batch_size: Rows at a time in the neighbor search; by default from free memory.
        progress: Show a bar; by default on a terminal.

    Returns:
        Ranking of the query's kind; scores are ``1 - d*``. Zero vectors of the gallery come last.
    """
    reranker = KReciprocal(k1, k2, lambda_value, restrict_to)
    queries, items = pair_of(query, gallery)
    k = len(items) if k is None else min(positive_int(k, "k"), len(items))
    if restrict_to is not None:
        return reranker.rerank(query, gallery, rank(query, gallery, k, batch_size), batch_size)
    indices, scores = reranker._best(queries, items, k, batch_size, progress)
    return Ranking(queries.in_kind(indices), queries.in_kind(scores))
