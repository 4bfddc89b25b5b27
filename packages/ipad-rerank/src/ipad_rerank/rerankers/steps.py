"""Run re-rankers one after the other, over a gallery or over each query's own candidates."""

from __future__ import annotations

from collections.abc import Sequence

from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.protocols import GalleryAugmenter, QueryExpander, Reranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.search.vectors import Array


class Run:
    """Where a run of steps stands: each step works on what the one before left.

    Args:
        now: What the first step gets.
        answered: Which steps of runs before this one did something, by id; they look at the density no more.
    """

    def __init__(self, now: Retrieval, answered: dict[int, bool] | None = None) -> None:
        self.now = now
        self.answered = dict(answered or {})

    def add(self, step: Reranker) -> None:
        """Let a step work."""
        now, key = self.now, id(step)
        if moves_queries(step):
            options = now.options.given("batch_size")
            self.now = now.moved(query=step.expand(now.query, now.gallery, now.ranking, **options))
        elif moves_gallery(step) and not now.own_galleries:
            self.now = now.moved(gallery=step.augment(now.gallery))
        elif now.options.on_unfamiliar != "fallback" or self.answered.get(key, True):
            # A reasoner looks on its first pass; a later one of the same reasoner, behind moved queries, goes along.
            before = now.after(now.ranking)
            found = answer_of(step, before.told("ignore") if key in self.answered else before)
            self.answered[key] = found is not now.ranking
            self.now = now.after(found)


def moved_queries(steps: Sequence[Reranker], query: Array, gallery: Array) -> Array:
    """Unit queries ``(Q, D)`` as the steps leave them."""
    run = Run(Retrieval(query, gallery, k=_depth_of(steps), options=Options(on_unfamiliar="ignore")))
    for step in steps:
        run.add(step)
    return run.now.query


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
