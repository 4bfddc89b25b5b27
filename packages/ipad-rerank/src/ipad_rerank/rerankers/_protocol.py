"""What re-rankers can do, as protocols: code tells them apart by these methods, not by their classes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from ipad_rerank.ranking import Ranking


@runtime_checkable
class Reranker(Protocol):
    """Takes a ranking, gives a better one."""

    def rerank(self, query: Any, gallery: Any, ranking: Ranking) -> Ranking:
        """A ranking of the same queries and the same k."""


@runtime_checkable
class CandidateReranker(Protocol):
    """Works on the vectors that a search engine returned, without the gallery."""

    def rerank_candidates(self, query: Any, candidates: Any, gallery_size: int | None = None) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; indices are columns."""


@runtime_checkable
class QueryExpander(Protocol):
    """A re-ranker that moves the queries, so that others can work on from the moved ones."""

    def expand(self, query: Any, gallery: Any, ranking: Ranking) -> Any:
        """New unit queries ``(Q, D)`` of the query's kind."""

    def expand_candidates(self, query: Any, candidates: Any, ranking: Ranking | None = None) -> Any:
        """The same where each query has a gallery of its own, ``candidates (Q, k, D)``; ranking: of its columns."""


@runtime_checkable
class GalleryAugmenter(Protocol):
    """A re-ranker that moves the gallery, so that others can work on from the moved one."""

    def augment(self, gallery: Any) -> Any:
        """A new unit gallery ``(G, D)`` of the gallery's kind."""
