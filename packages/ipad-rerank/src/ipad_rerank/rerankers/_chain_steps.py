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
    depth = ranking.k
    for step in steps:
        if moves_queries(step):
            query = step.expand(query, gallery, ranking, **_batch(batch_size))
            ranking = rank(query, gallery, depth, batch_size)
        elif _moves_gallery(step):
            gallery = step.augment(gallery)
            ranking = rank(query, gallery, depth, batch_size)
        else:
            ranking = step.rerank(query, gallery, ranking, **_batch(batch_size), **_density(step, on_unfamiliar))
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
    order: dict[str, Ranking] = {}
    for step in steps[:-1]:
        if isinstance(step, QueryExpander):
            query = step.expand_candidates(query, candidates, **order, **_batch(batch_size))
            order = {}
        elif isinstance(step, CandidateReranker) and not _moves_gallery(step):
            options = _batch(batch_size) | _density(step, on_unfamiliar)
            order = {"ranking": step.rerank_candidates(query, candidates, gallery_size, **options)}
        else:
            raise TypeError(f"rerank_candidates works without the gallery, which {step!r} moves")
    last = steps[-1]
    options = _batch(batch_size) | _density(last, on_unfamiliar)
    return last.rerank_candidates(query, candidates, gallery_size, **options)


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


def _density(step: Any, on_unfamiliar: str) -> dict[str, Any]:
    return {"on_unfamiliar": on_unfamiliar} if hasattr(step, "rerankers") or isinstance(step, FeatureReasoning) else {}
