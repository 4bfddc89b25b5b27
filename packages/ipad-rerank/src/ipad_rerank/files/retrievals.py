"""Queries and the gallery they meet: from one file or two, and within groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from ipad_rerank.files.embeddings import ROLES, EmbeddingSet, check_same_words
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.labels import searches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import positive_int


def split_queries(data: EmbeddingSet, seed: int = 0) -> tuple[EmbeddingSet, EmbeddingSet]:
    """(query, gallery) by role, or a random split 1 : 4 where there are no roles."""
    return _split(data, {"query": 1, "gallery": 4}, 2, seed)


def split_roles(data: EmbeddingSet, seed: int = 0) -> tuple[EmbeddingSet, EmbeddingSet, EmbeddingSet]:
    """(train, query, gallery) by role, or a random split 5 : 1 : 4 where there are no roles."""
    return _split(data, {"train": 5, "query": 1, "gallery": 4}, 20, seed)


def _split(data: EmbeddingSet, shares: dict[str, int], fewest: int, seed: int) -> tuple[EmbeddingSet, ...]:
    if data.roles is not None:
        return tuple(data.role(name) for name in shares)
    if len(data) < fewest:
        raise ValueError(f"{len(data)} rows are too few to split; at least {fewest} are needed")
    sizes = [max(1, len(data) * share // sum(shares.values())) for share in shares.values()]
    order = np.random.default_rng(seed).permutation(len(data))
    return tuple(data.select(rows) for rows in np.split(order, np.cumsum(sizes)[:-1]))


def part_of(data: EmbeddingSet, role: str) -> tuple[np.ndarray, EmbeddingSet]:
    """The rows of a role, and what they hold; all where no row has it (not copied: it may be a memory map)."""
    rows = np.flatnonzero(data.roles == ROLES.index(role)) if data.roles is not None else []
    return (rows, data.select(rows)) if len(rows) else (np.arange(len(data)), data)


def rank_groups(
    query: EmbeddingSet, gallery: EmbeddingSet, step: Reranker | None = None, k: int | None = None, **options: Any
) -> tuple[Ranking, Ranking | None]:
    """Each query's ranking of its own group's gallery rows, without and with a re-ranker.

    Rows of other groups fill up what the group lacks to ``k`` entries, with score ``-inf``.

    Args:
        query: With group_ids, or without.
        gallery: As ``query``.
        step: A re-ranker, or None.
        k: Length of the lists; None for the whole gallery.
        **options: Of the re-ranker's ``rerank``.

    Raises:
        ValueError: only one of the two has group_ids.
    """
    check_same_words(query, gallery)
    if query.group_ids is None and gallery.group_ids is None:
        before = rank(query.embeddings, gallery.embeddings, k=k)
        return before, step.rerank(query.embeddings, gallery.embeddings, before, **options) if step else None
    width = len(gallery) if k is None else min(positive_int(k, "k"), len(gallery))
    shape = (len(query), width)
    lists = [(np.tile(np.arange(width), (len(query), 1)), np.full(shape, -np.inf, np.float32)) for _ in range(2)]
    for query_rows, gallery_rows in searches(query.group_ids, gallery.group_ids):
        vectors = (query.embeddings[query_rows], gallery.embeddings[gallery_rows])
        before = rank(*vectors, k=min(len(gallery_rows), width))
        after = step.rerank(*vectors, before, **options) if step else before
        others = np.setdiff1d(np.arange(len(gallery)), gallery_rows)[: width - before.k]
        for (indices, scores), found in zip(lists, (before, after), strict=True):
            indices[query_rows, : found.k] = gallery_rows[found.indices]
            indices[query_rows, found.k :] = others
            scores[query_rows, : found.k] = found.scores
    before, after = (Ranking(*found) for found in lists)
    return before, after if step else None
