"""What all re-rankers of this package share: how they are called, and how they are saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.rerankers.saving import Saved
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, positive_int


class BaseReranker(Saved, ABC):
    """A re-ranker that answers a :class:`~ipad_rerank.rerankers.retrieval.Retrieval`."""

    @abstractmethod
    def answer(self, asked: Retrieval, **shared: Any) -> Ranking:
        """A ranking of the same k and kind; the one given where nothing is to be done.

        Args:
            asked: The queries, the gallery or each query's candidates, the ranking so far.
            **shared: What the caller has computed already, where the re-ranker takes such.
        """

    def rerank(
        self,
        query: ArrayLike,
        gallery: ArrayLike,
        ranking: Ranking,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
        **shared: Any,
    ) -> Ranking:
        """A better ranking of the same queries over the same gallery, of the same k.

        Args:
            query: ``(Q, D)``.
            gallery: ``(G, D)``; read by rows, so it may be a memory map.
            ranking: Of these queries over this gallery.
            batch_size: Queries at a time; by default from free memory.
            on_unfamiliar: Where the gallery is unlike those that the re-ranker knows: "warn", "fallback" (warn and
                answer the ranking as it came) or "ignore". Only learned ones look.
            progress: Show a bar; by default on a terminal.
            **shared: See :meth:`answer`.

        Returns:
            A ranking in ``ranking``'s kind; indices are rows of ``gallery``.
        """
        options = Options(batch_size, on_unfamiliar, progress)
        return self.answer(Retrieval(query, gallery, ranking, options=options), **shared)

    def rerank_candidates(
        self,
        query: ArrayLike,
        candidates: ArrayLike,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
        ranking: Ranking | None = None,
    ) -> Ranking:
        """Order the candidates that a search engine returned.

        Args:
            query: ``(Q, D)``.
            candidates: ``(Q, k, D)``, each query's top k in any order.
            gallery_size: Rows in the engine's collection, if known; learned re-rankers compare it with what they know.
            batch_size: As in :meth:`rerank`.
            on_unfamiliar: As in :meth:`rerank`.
            progress: As in :meth:`rerank`.
            ranking: The order the candidates come in; by cosine where it is None.

        Returns:
            A ranking whose indices are positions 0 to k - 1 among each query's candidates.
        """
        if gallery_size is not None:
            positive_int(gallery_size, "gallery_size")
        options = Options(batch_size, on_unfamiliar, progress)
        return self.answer(Retrieval(query, candidates, ranking, None, True, gallery_size, options))


def answer_of(reranker: Reranker, asked: Retrieval) -> Ranking:
    """The answer of any re-ranker, also one of others."""
    if isinstance(reranker, BaseReranker):
        return reranker.answer(asked)
    options = asked.options.given("batch_size", "progress")
    if asked.own_galleries:
        size = asked.collection_size
        return reranker.rerank_candidates(asked.query, asked.gallery, size, ranking=asked.ranking, **options)
    return reranker.rerank(asked.query, asked.gallery, asked.ranking, **options)
