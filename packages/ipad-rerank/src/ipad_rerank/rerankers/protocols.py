"""What re-rankers can do, as protocols: code tells them apart by these methods, not by their classes.

``rerank`` is all that a :class:`~ipad_rerank.Chain` and :func:`~ipad_rerank.compare` need. A re-ranker that ``tune`` and
``compare`` find by name derives from :class:`~ipad_rerank.rerankers.plain.PlainReranker` and has a line in
``registry.py``.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike


@runtime_checkable
class Reranker(Protocol):
    """Takes a ranking, gives a better one."""

    def rerank(self, query: ArrayLike, gallery: ArrayLike, ranking: Ranking) -> Ranking:
        """A ranking of the same queries ``(Q, D)`` over the same gallery ``(G, D)``, of the same k."""


@runtime_checkable
class CandidateReranker(Protocol):
    """Works on the vectors that a search engine returned, without the gallery."""

    def rerank_candidates(
        self,
        query: ArrayLike,
        candidates: ArrayLike,
        gallery_size: int | None = None,
        *,
        ranking: Ranking | None = None,
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; indices are columns.

        ``ranking`` is the order in which they come, by cosine where it is None.
        """


@runtime_checkable
class QueryExpander(Protocol):
    """A re-ranker that moves the queries, so that others can work on from the moved ones."""

    def expand(self, query: ArrayLike, gallery: ArrayLike, ranking: Ranking) -> Array:
        """New unit queries ``(Q, D)``; the gallery is ``(G, D)``, or ``(Q, k, D)`` where each query has its own."""


@runtime_checkable
class GalleryAugmenter(Protocol):
    """A re-ranker that moves the gallery, so that others can work on from the moved one."""

    def augment(self, gallery: ArrayLike) -> Array:
        """A new unit gallery ``(G, D)`` of the gallery's kind."""
