"""Queries, what they are searched in, and the ranking so far: what a re-ranker is given to work on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch

from ipad_rerank.search.cosine import own_cosine, rank
from ipad_rerank.search.memory import batches
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, Pair, Vectors, one_of, pair_of, positive_int

ON_UNFAMILIAR = ("warn", "fallback", "ignore")


@dataclass(frozen=True)
class Options:
    """How a re-ranking is done.

    Args:
        batch_size: Queries at a time; None for as many as free memory allows.
        on_unfamiliar: Where the gallery is unlike those that the re-ranker knows: "warn", "fallback" (warn and answer the
            ranking as it came) or "ignore".
        progress: Show a bar; None for on a terminal.
    """

    batch_size: int | None = None
    on_unfamiliar: str = "warn"
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            positive_int(self.batch_size, "batch_size")
        one_of(ON_UNFAMILIAR, self.on_unfamiliar, "on_unfamiliar")

    def given(self, *names: str) -> dict[str, Any]:
        """Those of ``names`` that differ from the default: re-rankers of others need not know what is not used."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Options, name)}


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Queries that search a gallery, or each its own candidates.

    Args:
        query: ``(Q, D)``.
        gallery: ``(G, D)``, or with ``own_galleries`` each query's candidates ``(Q, k, D)``.
        ranked: A ranking of these queries; None for by cosine, searched when it is asked for.
        k: Length of the lists where they are searched; None for all there is.
        own_galleries: Whether each query has a gallery of its own.
        collection_size: Rows of the collection that the candidates are from, if known.
        options: How the work is done.
        largest_tried: Rows of the largest gallery that the re-ranker asked was tried on, if that is known.
    """

    query: ArrayLike
    gallery: ArrayLike
    ranked: Ranking | None = None
    k: int | None = None
    own_galleries: bool = False
    collection_size: int | None = None
    options: Options = Options()
    largest_tried: int | None = None

    def __post_init__(self) -> None:
        if self.ranked is not None:
            self.ranked.check_gallery(len(self.queries), self.items.shape[-2])
            if not self.ranked.k:
                raise ValueError("ranking has lists of length 0; there is nothing to re-rank")

    @cached_property
    def pair(self) -> Pair:
        """Queries and gallery, checked."""
        return pair_of(self.query, self.gallery, self.own_galleries)

    @property
    def queries(self) -> Vectors:
        return self.pair.queries

    @property
    def items(self) -> Vectors:
        return self.pair.items

    @property
    def dtype(self) -> torch.dtype:
        """Of the work."""
        return self.pair.dtype

    @property
    def device(self) -> torch.device:
        """Of the work."""
        return self.pair.device

    @property
    def gallery_size(self) -> int | None:
        """Rows that were searched, if known."""
        return self.collection_size if self.own_galleries else len(self.items)

    @property
    def length(self) -> int:
        """Of the lists."""
        if self.ranked is not None:
            return self.ranked.k
        return min(self.k or self.items.shape[-2], self.items.shape[-2])

    @cached_property
    def ranking(self) -> Ranking:
        """The ranking given, or by cosine."""
        if self.ranked is not None:
            return self.ranked
        if self.own_galleries:
            return rank_candidates(self.pair)
        return rank(self.query, self.gallery, self.k, self.options.batch_size, self.options.progress)

    def in_kind(self, indices: torch.Tensor, scores: torch.Tensor) -> Ranking:
        """A ranking of these tensors, of the kind of the one given, or of the queries."""
        if self.ranked is not None:
            return self.ranked.like(indices, scores)
        return Ranking(self.queries.in_kind(indices), self.queries.in_kind(scores))

    def after(self, ranking: Ranking) -> Self:
        """The same with another ranking."""
        return replace(self, ranked=ranking)

    def moved(self, **vectors: ArrayLike) -> Self:
        """The same with other queries or another gallery, to be searched anew."""
        return replace(self, ranked=None, k=self.ranked.k if self.ranked else self.k, **vectors)

    def told(self, on_unfamiliar: str) -> Self:
        """The same with this option changed."""
        return replace(self, options=replace(self.options, on_unfamiliar=on_unfamiliar))

    def batches(self, numbers: int, label: str | None = None, most: int | None = None) -> Iterable[slice]:
        """Slices of queries; ``numbers`` are held for each. With a ``label``, progress is shown."""
        size = self.dtype.itemsize * numbers
        parts = batches(len(self.queries), size, self.device, self.options.batch_size, most)
        return parts if label is None else progress_over(parts, label, self.options.progress)


def rank_candidates(pair: Pair) -> Ranking:
    """Each query's candidates ``(Q, k, D)`` by cosine; indices are columns, ties by lowest column."""
    queries, items, dtype, device = pair
    scores = torch.empty(items.shape[:2], dtype=dtype, device=device)
    for rows in batches(len(items), 4 * dtype.itemsize * items.shape[1] * items.dim, device):
        scores[rows] = own_cosine(queries.unit(rows, dtype, device), items.unit(rows, dtype, device))
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return Ranking(queries.in_kind(order), queries.in_kind(scores))
