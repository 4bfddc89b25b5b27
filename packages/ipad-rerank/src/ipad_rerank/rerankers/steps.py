"""Run re-rankers one after the other, over a gallery or over each query's own candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipad_rerank.rerankers.protocols import GalleryAugmenter, QueryExpander, Reranker
from ipad_rerank.rerankers.shortlist import rank_candidates
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, candidates_of, compute_dtype, work_device


class Run:
    """Where a run of steps stands: each step works on what the one before left.

    Args:
        query: ``(Q, D)``.
        gallery: ``(G, D)``, or with ``own_galleries`` each query's candidates ``(Q, k, D)``.
        ranking: Of these queries; None for by cosine.
        depth: Length of the lists; None for all.
        own_galleries: Whether each query has a gallery of its own.
        gallery_size: Rows of the collection that the candidates are from, if known.
        batch_size: Queries at a time.
        on_unfamiliar: For steps that look at how dense the gallery is.
        progress: Show bars, where a step has one; by default on a terminal.
        answered: Which steps of runs before this one did something, by id; they look at the density no more.
    """

    def __init__(
        self,
        query: ArrayLike,
        gallery: ArrayLike,
        ranking: Ranking | None = None,
        depth: int | None = None,
        own_galleries: bool = False,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
        answered: dict[int, bool] | None = None,
    ) -> None:
        self.query, self.gallery, self.depth = query, gallery, depth
        self.own_galleries, self.gallery_size = own_galleries, gallery_size
        self._ranking = ranking
        self._on_unfamiliar = on_unfamiliar
        # Re-rankers of others need not know the options, where they are not used.
        options = {"batch_size": batch_size, "progress": progress}
        self._options = {name: value for name, value in options.items() if value is not None}
        self.answered = dict(answered or {})

    @property
    def ranking(self) -> Ranking:
        """Of the queries and the gallery as they are now; searched when it is asked for."""
        if self._ranking is None:
            if self.own_galleries:
                queries, items = candidates_of(self.query, self.gallery)
                dtype, device = compute_dtype(queries, items), work_device(queries, items)
                self._ranking = rank_candidates(queries, items, dtype, device)
            else:
                self._ranking = rank(self.query, self.gallery, self.depth, **self._options)
        return self._ranking

    def add(self, step: Reranker) -> None:
        """Let a step work."""
        if moves_queries(step):
            options = {name: value for name, value in self._options.items() if name != "progress"}
            self.query = step.expand(self.query, self.gallery, self.ranking, **options)
            self._ranking = None
        elif moves_gallery(step) and not self.own_galleries:
            self.gallery = step.augment(self.gallery)
            self._ranking = None
        elif self._on_unfamiliar != "fallback" or self.answered.get(id(step), True):
            before = self.ranking
            self._ranking = self._rerank(step, before)
            self.answered[id(step)] = self._ranking is not before

    def _rerank(self, step: Reranker, ranking: Ranking) -> Ranking:
        options: dict[str, Any] = dict(self._options)
        if getattr(step, "looks_at_density", False):
            # A reasoner looks on its first pass; a later one of the same reasoner, behind moved queries, goes along.
            options["on_unfamiliar"] = "ignore" if id(step) in self.answered else self._on_unfamiliar
        if self.own_galleries:
            size = self.gallery_size
            return step.rerank_candidates(self.query, self.gallery, size, ranking=ranking, **options)
        return step.rerank(self.query, self.gallery, ranking, **options)


def moved_queries(steps: Sequence[Reranker], query: Array, gallery: Array) -> Array:
    """Unit queries ``(Q, D)`` as the steps leave them."""
    run = Run(query, gallery, depth=_depth_of(steps), on_unfamiliar="ignore")
    for step in steps:
        run.add(step)
    return run.query


def moves_queries(step: Reranker) -> bool:
    """True for a query expansion over the whole gallery."""
    return isinstance(step, QueryExpander) and getattr(step, "restrict_to", None) is None


def moves_gallery(step: Reranker) -> bool:
    """True for an augmentation of the whole gallery."""
    return isinstance(step, GalleryAugmenter) and getattr(step, "restrict_to", None) is None


def _depth_of(steps: Sequence[Reranker]) -> int | None:
    """How long the lists must be for expansions alone; None, all, where other steps are among them."""
    sizes = [getattr(step, "k", None) if moves_queries(step) else None for step in steps]
    return None if None in sizes else max(sizes, default=1)
