"""Queries and the gallery they meet: from one file or two, and within groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from ipad_rerank.embeddings import ROLES, EmbeddingSet
from ipad_rerank.ranking import Ranking, rank


def split_queries(data: EmbeddingSet, seed: int = 0) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Queries and gallery by role, or a random fifth and the rest where there are no roles."""
    if data.roles is not None:
        return data.role("query"), data.role("gallery")
    if len(data) < 2:
        raise ValueError("one row cannot be both query and gallery; at least 2 are needed")
    order = np.random.default_rng(seed).permutation(len(data))
    cut = max(1, len(data) // 5)
    return data.select(order[:cut]), data.select(order[cut:])


def part_of(data: EmbeddingSet, role: str) -> tuple[np.ndarray, EmbeddingSet]:
    """The rows of a role, and what they hold; all where no row has it (not copied: it may be a memory map)."""
    rows = np.flatnonzero(data.roles == ROLES.index(role)) if data.roles is not None else []
    return (rows, data.select(rows)) if len(rows) else (np.arange(len(data)), data)


def rank_groups(
    query: EmbeddingSet, gallery: EmbeddingSet, step: Any = None, k: int | None = None, **options: Any
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
    if (query.group_ids is None) != (gallery.group_ids is None):
        raise ValueError("queries and gallery must both have group_ids, or neither")
    if query.group_ids is None:
        before = rank(query.embeddings, gallery.embeddings, k=k)
        return before, step.rerank(query.embeddings, gallery.embeddings, before, **options) if step else None
    width = len(gallery) if k is None else min(k, len(gallery))
    tables = [(np.empty((len(query), width), np.int64), np.empty((len(query), width), np.float32)) for _ in range(2)]
    for group in np.unique(query.group_ids):
        own = np.flatnonzero(query.group_ids == group)
        met = np.flatnonzero(gallery.group_ids == group)
        length = min(len(met), width)
        for indices, scores in tables:
            indices[own, length:] = np.flatnonzero(gallery.group_ids != group)[: width - length]
            scores[own, length:] = -np.inf
        if not length:
            continue
        ranking = rank(query.embeddings[own], gallery.embeddings[met], k=length)
        vectors = (query.embeddings[own], gallery.embeddings[met])
        better = step.rerank(*vectors, ranking, **options) if step else ranking
        for (indices, scores), found in zip(tables, (ranking, better), strict=True):
            indices[own, :length], scores[own, :length] = met[found.indices], found.scores
    return Ranking(*tables[0]), Ranking(*tables[1]) if step else None
