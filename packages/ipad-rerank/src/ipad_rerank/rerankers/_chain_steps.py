"""Run re-rankers one after the other, over a gallery or over each query's own candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._protocol import CandidateReranker, GalleryAugmenter, QueryExpander
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning


def run(
    steps: Sequence[Any],
    query: Any,
    gallery: Any,
    ranking: Ranking,
    batch_size: int | None = None,
    on_unfamiliar: str = "warn",
) -> tuple[Any, Ranking]:
    """The queries as the steps leave them, and the ranking."""
    depth, looks = ranking.k, _Looks(on_unfamiliar)
    for step in steps:
        if moves_queries(step):
            query = step.expand(query, gallery, ranking, **_batch(batch_size))
            ranking = rank(query, gallery, depth, batch_size)
        elif _moves_gallery(step):
            gallery = step.augment(gallery)
            ranking = rank(query, gallery, depth, batch_size)
        elif looks.wanted(step):
            found = step.rerank(query, gallery, ranking, **_batch(batch_size), **looks.options(step))
            looks.note(step, found is not ranking)
            ranking = found
    return query, ranking


def run_candidates(
    steps: Sequence[Any],
    query: Any,
    candidates: Any,
    gallery_size: int | None,
    batch_size: int | None = None,
    on_unfamiliar: str = "warn",
) -> Ranking:
    """The same on ``candidates (Q, k, D)``: queries move towards the best of the candidates only."""
    looks = _Looks(on_unfamiliar)
    order: dict[str, Ranking] = {}
    for step in steps[:-1]:
        if isinstance(step, QueryExpander):
            query = step.expand_candidates(query, candidates, **order, **_batch(batch_size))
            order = {}
        elif isinstance(step, CandidateReranker) and not _moves_gallery(step):
            options = _batch(batch_size) | looks.options(step)
            order = {"ranking": step.rerank_candidates(query, candidates, gallery_size, **options)}
            if on_unfamiliar != "fallback":  # whether it fell back does not show here: let it look again
                looks.note(step, True)
        else:
            raise TypeError(f"rerank_candidates works without the gallery, which {step!r} moves")
    last = steps[-1]
    return last.rerank_candidates(query, candidates, gallery_size, **_batch(batch_size), **looks.options(last))


class _Looks:
    """A reasoner looks at how dense the gallery is on its first pass; a later one of the same reasoner goes along."""

    def __init__(self, on_unfamiliar: str) -> None:
        self.on_unfamiliar = on_unfamiliar
        self.answered: dict[int, bool] = {}

    def wanted(self, step: Any) -> bool:
        """False for a reasoner that fell back before."""
        return self.on_unfamiliar != "fallback" or self.answered.get(id(step), True)

    def options(self, step: Any) -> dict[str, Any]:
        """Re-rankers of others, and of other kinds, need not know the option."""
        if hasattr(step, "rerankers"):
            return {"on_unfamiliar": self.on_unfamiliar}
        if not isinstance(step, FeatureReasoning):
            return {}
        return {"on_unfamiliar": "ignore" if id(step) in self.answered else self.on_unfamiliar}

    def note(self, step: Any, answered: bool) -> None:
        self.answered[id(step)] = answered


class QueryMover:
    """Steps in the place of a query expansion, for a fit behind them."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = tuple(steps)

    def expand(self, query: Any, gallery: Any, ranking: Ranking) -> Any:
        """Unit queries ``(Q, D)`` as the steps leave them."""
        return run(self.steps, query, gallery, ranking, on_unfamiliar="ignore")[0]


def moves_queries(step: Any) -> bool:
    """True for a query expansion over the whole gallery."""
    return isinstance(step, QueryExpander) and getattr(step, "restrict_to", None) is None


def _moves_gallery(step: Any) -> bool:
    return isinstance(step, GalleryAugmenter) and getattr(step, "restrict_to", None) is None


def _batch(batch_size: int | None) -> dict[str, Any]:
    """Re-rankers of others need not know the option, where it is not used."""
    return {} if batch_size is None else {"batch_size": batch_size}
