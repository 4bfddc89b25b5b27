"""Hits of an engine with their vectors, and their new order."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ipad_rerank.rerankers.protocols import CandidateReranker
from ipad_rerank.search.vectors import ArrayLike, Vectors


class Hit(NamedTuple):
    """One search result: the engine's id, the score (of the re-ranker, larger is better), what was stored with it."""

    id: Any
    score: float
    payload: Any = None


def reorder(
    reranker: CandidateReranker,
    query: np.ndarray,
    vectors: np.ndarray,
    hits: list[list[Hit]],
    limit: int | None,
    gallery_size: int | None,
) -> list[list[Hit]]:
    """Each query's hits in the re-ranker's order, with its scores, at most ``limit`` of them.

    Args:
        reranker: Anything with ``rerank_candidates``.
        query: ``(Q, D)``.
        vectors: ``(Q, k, D)``; rows behind a query's last hit are zero.
        hits: Per query, k or fewer.
        limit: How many to return; None returns all.
        gallery_size: Rows in the engine's collection.
    """
    if not isinstance(reranker, CandidateReranker):
        raise TypeError(f"reranker must have a method rerank_candidates, got {type(reranker).__name__}")
    found: list[list[Hit]] = [[] for _ in hits]
    lengths = np.array([len(row) for row in hits])
    for length in np.unique(lengths[lengths > 0]):  # one call, unless the engine found less for some queries
        rows = (lengths == length).nonzero()[0]
        ranking = reranker.rerank_candidates(query[rows], vectors[rows, :length], gallery_size=gallery_size)
        for row, columns, scores in zip(rows, ranking.indices.tolist(), ranking.scores.tolist(), strict=True):
            ordered = zip(columns[:limit], scores[:limit], strict=True)
            found[row] = [hits[row][column]._replace(score=score) for column, score in ordered]
    return found


def as_queries(query: ArrayLike, dim: int) -> np.ndarray:
    """``(Q, D)`` float32, checked against the engine's dimension."""
    vectors = Vectors(query, "query", dim=dim, dim_of="the engine's collection")
    array = vectors.array.detach().cpu().numpy() if vectors.is_torch else vectors.array
    array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ValueError("query has NaN or infinite values")
    return array


def require(module: str, extra: str) -> ModuleType:
    """The engine's client, or an error that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed; run: pip install 'ipad-rerank[{extra}]'") from error
