"""Hits of an engine with their vectors, and their new order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ipad_rerank.rerankers.base import after_steps, check_candidates_suffice, moves_queries
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.guard import Guard
from ipad_rerank.rerankers.protocols import CandidateReranker, Reranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.rerankers.shortlist import keep_in_front
from ipad_rerank.search.vectors import ArrayLike, Vectors, positive_int


class Hit(NamedTuple):
    """One search result: the engine's id, the score (of the re-ranker, larger is better), what was stored with it."""

    id: int | str
    score: float
    payload: Any = None


class Fetched(NamedTuple):
    """Per query k hits or fewer, and their vectors ``(Q, k, D)``; rows behind a query's last hit are zero."""

    hits: list[list[Hit]]
    vectors: np.ndarray

    def by_length(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of the queries with equally many hits, and their candidates ``(n, length, D)``."""
        lengths = np.array([len(row) for row in self.hits])
        for length in np.unique(lengths[lengths > 0]):
            rows = (lengths == length).nonzero()[0]
            yield rows, self.vectors[rows, :length]


class EngineSearch(ABC):
    """What the adapters share: fetch the top k with their vectors, re-rank them, return hits in the new order."""

    @abstractmethod
    def describe(self) -> tuple[int, int | None]:
        """Dimension of the vectors, and how many there are, if known."""

    @abstractmethod
    def fetch(self, query: np.ndarray, k: int, **options: Any) -> Fetched:
        """The engine's answer to queries ``(Q, D)``."""

    def __call__(
        self,
        query: ArrayLike,
        k: int,
        reranker: CandidateReranker,
        limit: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
        **options: Any,
    ) -> list[list[Hit]]:
        """Per query its hits, best first; fewer than k where the engine finds fewer.

        Query expansion, alone or in a chain, searches the engine again with the queries that it moved.

        Args:
            query: ``(Q, D)`` numpy array, torch tensor or lists.
            k: How many to fetch and re-rank.
            reranker: Anything with ``rerank_candidates``.
            limit: How many to return; None returns all k.
            on_unfamiliar: "warn", "fallback" or "ignore", see ``FeatureReasoning.rerank``.
            progress: Show a bar; by default on a terminal.
            **options: Of the engine, see its :meth:`fetch`.

        Raises:
            ValueError: another dimension, k below 1, and what :meth:`fetch` raises.
            TypeError: a re-ranker that an engine cannot serve.
        """
        dim, size = self.describe()
        queries, k = as_queries(query, dim), positive_int(k, "k")
        limit = None if limit is None else positive_int(limit, "limit")
        told = Options(on_unfamiliar=on_unfamiliar, progress=progress)
        return reranked(reranker, queries, lambda asked: self.fetch(asked, k, **options), size, limit, told)


def reranked(
    reranker: CandidateReranker,
    query: np.ndarray,
    fetch: Callable[[np.ndarray], Fetched],
    gallery_size: int | None,
    limit: int | None,
    options: Options,
) -> list[list[Hit]]:
    """Each query's hits in the re-ranker's order, with its scores; the engine may be asked again on the way."""
    steps = _steps(reranker)
    found = fetch(query)
    asked, answered = query, dict[int, bool]()

    def part(rows: np.ndarray, vectors: np.ndarray) -> Retrieval:
        return Retrieval(asked[rows], vectors, None, None, True, gallery_size, options)

    while moving := [place for place, step in enumerate(steps) if moves_queries(step)]:
        before, steps = steps[: moving[0] + 1], steps[moving[0] + 1 :]
        asked, known = asked.copy(), dict(answered)
        for rows, vectors in found.by_length():
            now, did = after_steps(part(rows, vectors), before, known)
            asked[rows] = now.query
            answered = {key: answered.get(key, False) or value for key, value in did.items()}
        found = fetch(asked)
    lists: list[list[Hit]] = [[] for _ in found.hits]
    for rows, vectors in found.by_length():
        ranking = after_steps(part(rows, vectors), steps, answered)[0].ranking
        if isinstance(reranker, Chain):
            ranking = keep_in_front(Retrieval(query[rows], vectors, own_galleries=True), ranking)
        for row, columns, scores in zip(rows, ranking.indices.tolist(), ranking.scores.tolist(), strict=True):
            ordered = zip(columns[:limit], scores[:limit], strict=True)
            lists[row] = [found.hits[row][column]._replace(score=score) for column, score in ordered]
    return lists


def _steps(reranker: CandidateReranker) -> Sequence[Reranker]:
    if not isinstance(reranker, CandidateReranker):
        raise TypeError(f"reranker must have a method rerank_candidates, got {type(reranker).__name__}")
    inner = reranker.reranker if isinstance(reranker, Guard) else reranker
    steps = inner.rerankers if isinstance(inner, Chain) else (inner,)
    if isinstance(reranker, Guard) and any(map(moves_queries, steps)):
        raise TypeError(
            f"an engine cannot serve {reranker!r}: a guard mixes two orders of one search's results, and what is inside it "
            "searches again; use that by itself"
        )
    check_candidates_suffice(steps)
    return (reranker,) if isinstance(reranker, Guard) else steps


def as_queries(query: ArrayLike, dim: int) -> np.ndarray:
    """``(Q, D)`` float32, checked against the engine's dimension."""
    vectors = Vectors(query, "query", dim=dim, dim_of="the engine's collection")
    array = vectors.array.detach().cpu().numpy() if vectors.is_torch else vectors.array
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError("query has NaN or infinite values")
    return array
