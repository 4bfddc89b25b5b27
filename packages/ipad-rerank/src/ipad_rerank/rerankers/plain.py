"""Re-rankers without weights: a few settings, chosen by hand or by ``tune``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self, TypeAlias

from torch import Tensor

from ipad_rerank.rerankers.saving import Saved, Tensors
from ipad_rerank.rerankers.shortlist import Shortlist, rank_candidates
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import (
    ArrayLike,
    Vectors,
    candidates_of,
    compute_dtype,
    pair_of,
    positive_int,
    work_device,
)

Grid: TypeAlias = Mapping[str, Sequence[float]]
"""Values to try, by the name of the setting."""


class PlainReranker(Saved, ABC):
    """Base of re-rankers that are frozen dataclasses of their settings.

    A new one needs :meth:`refine`, and a line in ``registry.py`` by which ``tune``, ``compare`` and saving find it. One
    that looks at the whole gallery also has :meth:`search`, and a field ``restrict_to: int | None = None``: a number
    there asks for the work on each query's first candidates alone.
    """

    grid: ClassVar[Grid] = {}
    """What ``tune`` tries of each setting. Make it wide: the best neighborhood sizes depend on how many items are
    relevant to a query, from a handful to hundreds. Empty: only the settings as they are."""

    sizes: ClassVar[tuple[str, ...]] = ()
    """Settings that count neighbors; ``tune`` leaves out values that the gallery cannot fill."""

    pair_cost: ClassVar[int] = 0
    """Numbers that :meth:`refine` holds for each pair of a query's candidates."""

    restrict_to: int | None = None

    def __post_init__(self) -> None:
        for name in self.sizes:
            positive_int(getattr(self, name), name)
        if self.restrict_to is not None:
            positive_int(self.restrict_to, "restrict_to")

    @abstractmethod
    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Scores ``(B, n)`` above -2 of each query's candidates.

        Args:
            query: ``(B, D)`` unit vectors.
            candidates: ``(B, n, D)`` unit vectors, best first.
        """

    def search(
        self,
        queries: Vectors,
        items: Vectors,
        ranking: Ranking,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Ranking:
        """A ranking of the same k over the whole gallery; without an own way, the whole list is refined."""
        return self._refined(queries, items, ranking, ranking.k, batch_size, progress)

    @property
    def is_sensible(self) -> bool:
        """False where ``tune`` need not try this combination."""
        return True

    @classmethod
    def shared_work(cls, rerankers: Sequence[Self], gallery: ArrayLike) -> dict[str, Any]:
        """What :meth:`search` of all these settings needs of the gallery, computed once; keywords of ``search``."""
        return {}

    @classmethod
    def sweep(
        cls, rerankers: Sequence[Self], query: ArrayLike, gallery: ArrayLike, ranking: Ranking
    ) -> Iterator[tuple[int, Ranking]]:
        """``(place in rerankers, ranking)`` of each, in any order; what they share is computed once."""
        shared = cls.shared_work(rerankers, gallery) if rerankers[0].restrict_to is None else {}
        for place, reranker in enumerate(rerankers):
            yield place, reranker.rerank(query, gallery, ranking, **shared)

    def rerank(
        self,
        query: ArrayLike,
        gallery: ArrayLike,
        ranking: Ranking,
        batch_size: int | None = None,
        progress: bool | None = None,
        **shared: Any,
    ) -> Ranking:
        """A new ranking of the same k over the whole gallery, or the candidates re-ordered with ``restrict_to``.

        Args:
            query: ``(Q, D)``.
            gallery: ``(G, D)``.
            ranking: Of these queries over this gallery.
            batch_size: Queries (or rows) at a time; by default from free memory.
            progress: Show a bar; by default on a terminal.
            **shared: What the caller has computed already, see :meth:`shared_work`.
        """
        queries, items = pair_of(query, gallery)
        if self.restrict_to is not None:
            return self._refined(queries, items, ranking, self.restrict_to, batch_size, progress)
        ranking.check_gallery(len(queries), len(items))
        return self.search(queries, items, ranking, batch_size, progress, **shared)

    def rerank_candidates(
        self,
        query: ArrayLike,
        candidates: ArrayLike,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        ranking: Ranking | None = None,
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``.

        Args:
            query: ``(Q, D)``.
            candidates: ``(Q, k, D)``.
            gallery_size: Taken for the common call shape only.
            batch_size: Queries at a time.
            progress: Show a bar; by default on a terminal.
            ranking: The order they come in; by cosine where it is None.
        """
        queries, items = candidates_of(query, candidates)
        if ranking is None:
            ranking = rank_candidates(queries, items, compute_dtype(queries, items), work_device(queries, items))
        return self._refined(queries, items, ranking, ranking.k, batch_size, progress)

    def to_config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: Tensors) -> Self:
        return cls(**config)

    def _refined(
        self,
        queries: Vectors,
        items: Vectors,
        ranking: Ranking,
        head: int,
        batch_size: int | None,
        progress: bool | None,
    ) -> Ranking:
        dtype, device = compute_dtype(queries, items), work_device(queries, items)
        shortlist = Shortlist(queries, items, ranking, head, dtype, device)
        numbers = shortlist.head * (4 * items.dim + self.pair_cost * shortlist.head + 8)
        return shortlist.rerank(self.refine, numbers, batch_size, progress=progress)


def exponent(value: float, name: str) -> None:
    """ValueError unless ``value`` is 0 or more and finite."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be 0 or more, got {value}")
