"""What all re-rankers share: how one is called and saved, and how several work one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ipad_rerank.rerankers.protocols import CandidateReranker, GalleryAugmenter, QueryExpander, Reranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.rerankers.saving import Config, Tensors, load, save
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, positive_int


class BaseReranker(ABC):
    """A re-ranker that answers a :class:`~ipad_rerank.rerankers.retrieval.Retrieval`.

    To be saved, a class has a name in ``saving.kinds``, and ``to_config`` and ``from_config``; one with weights also
    ``tensors``.
    """

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

    def to_config(self) -> Config:
        """All but the weights, as JSON values."""
        raise NotImplementedError

    def tensors(self) -> Tensors:
        """The weights by name."""
        return {}

    @classmethod
    def from_config(cls, config: Config, tensors: Tensors) -> Self:
        """The re-ranker that had this configuration and these weights."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Write into ``folder``, made if missing, in place of what re-ranker was saved there before."""
        save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what :meth:`save_pretrained` wrote; errors as those of :func:`ipad_rerank.load`."""
        found = load(folder)
        if not isinstance(found, cls):
            raise ValueError(
                f"{folder} holds a {type(found).__name__}, not a {cls.__name__}; ipad_rerank.load reads any"
            )
        return found


def answer_of(reranker: Reranker, asked: Retrieval) -> Ranking:
    """The answer of any re-ranker, also one of others."""
    if isinstance(reranker, BaseReranker):
        return reranker.answer(asked)
    options = asked.options.given("batch_size", "progress")
    if asked.own_galleries:
        size = asked.collection_size
        return reranker.rerank_candidates(asked.query, asked.gallery, size, ranking=asked.ranking, **options)
    return reranker.rerank(asked.query, asked.gallery, asked.ranking, **options)


def after_steps(
    now: Retrieval, steps: Sequence[Reranker], answered: Mapping[int, bool] | None = None
) -> tuple[Retrieval, dict[int, bool]]:
    """What is left after each step worked on what the one before left, and which steps did something, by their id.

    Args:
        now: What the first step gets.
        steps: Re-rankers.
        answered: Which steps of earlier searches did something; they look at the density no more.
    """
    answered = dict(answered or {})
    for step in steps:
        if moves_queries(step):
            options = now.options.given("batch_size")
            now = now.moved(query=step.expand(now.query, now.gallery, now.ranking, **options))
        elif moves_gallery(step) and not now.own_galleries:
            now = now.moved(gallery=step.augment(now.gallery))
        elif now.options.on_unfamiliar != "fallback" or answered.get(id(step), True):
            # A reasoner looks on its first pass; a later one of the same reasoner, behind moved queries, goes along.
            now = now.after(now.ranking)
            found = answer_of(step, now.told("ignore") if id(step) in answered else now)
            answered[id(step)] = found is not now.ranking
            now = now.after(found)
    return now, answered


def moved_queries(steps: Sequence[Reranker], query: Array, gallery: Array) -> Array:
    """Unit queries ``(Q, D)`` as the steps leave them."""
    asked = Retrieval(query, gallery, k=_depth_of(steps), options=Options(on_unfamiliar="ignore"))
    return after_steps(asked, steps)[0].query


def moves_queries(step: Reranker) -> bool:
    """True for a query expansion over the whole gallery."""
    return isinstance(step, QueryExpander) and getattr(step, "restrict_to", None) is None


def moves_gallery(step: Reranker) -> bool:
    """True for an augmentation of the whole gallery."""
    return isinstance(step, GalleryAugmenter) and getattr(step, "restrict_to", None) is None


def check_candidates_suffice(steps: Sequence[Reranker]) -> None:
    """TypeError where a step needs the gallery: it takes no candidates, or moves the gallery for the steps behind it."""
    for place, step in enumerate(steps, 1):
        if not isinstance(step, CandidateReranker) or (moves_gallery(step) and place < len(steps)):
            raise TypeError(f"candidates are at hand without the gallery, which {step!r} needs")


def _depth_of(steps: Sequence[Reranker]) -> int | None:
    """How long the lists must be for expansions alone; None, all, where other steps are among them."""
    sizes = [getattr(step, "k", None) if moves_queries(step) else None for step in steps]
    return None if None in sizes else max(sizes, default=1)
