"""Re-rankers without weights: a few settings, chosen by hand or by ``tune``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self, TypeAlias

from torch import Tensor

from ipad_rerank.rerankers.base import BaseReranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Config, Tensors
from ipad_rerank.rerankers.shortlist import Shortlist
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, number_in, positive_int

Grid: TypeAlias = Mapping[str, Sequence[float]]
"""Values to try, by the name of the setting."""


class PlainReranker(BaseReranker):
    """Base of re-rankers that are frozen dataclasses of their settings.

    A new one needs :meth:`refine`, and a line in ``registry.py`` by which ``tune``, ``compare`` and saving find it. One
    that looks at the whole gallery also has :meth:`search`, and a field ``restrict_to: int | None = None``: a number
    there asks for the work on each query's first candidates alone.
    """

    grid: ClassVar[Grid] = {}
    """What ``tune`` tries of each setting. Make it wide: the best neighborhood sizes depend on how many items are
    relevant to a query, from a handful to hundreds. Empty: only the settings as they are."""

    sizes: ClassVar[tuple[str, ...]] = ()
    """Settings that are whole numbers from 1 on; ``tune`` leaves out values of its grid that the gallery cannot fill."""

    ranges: ClassVar[Mapping[str, str]] = {}
    """Intervals that other settings must lie in, such as ``{"alpha": "[0, inf)"}``."""

    pair_cost: ClassVar[int] = 0
    """Numbers that :meth:`refine` holds for each pair of a query's candidates."""

    restrict_to: int | None = None

    def __post_init__(self) -> None:
        for name in self.sizes:
            positive_int(getattr(self, name), name)
        for name, interval in self.ranges.items():
            number_in(interval, getattr(self, name), name)
        if self.restrict_to is not None:
            positive_int(self.restrict_to, "restrict_to")

    @abstractmethod
    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Scores ``(B, n)`` above -2 of each query's candidates.

        Args:
            query: ``(B, D)`` unit vectors.
            candidates: ``(B, n, D)`` unit vectors, best first.
        """

    def search(self, asked: Retrieval) -> Ranking:
        """A ranking of the same k over the whole gallery; without an own way, the whole list is refined.

        Takes what :meth:`shared_work` gives as further, optional keywords.
        """
        return self._refined(asked, asked.length)

    def answer(self, asked: Retrieval, **shared: Any) -> Ranking:
        """Over the whole gallery, or the candidates re-ordered: with ``restrict_to``, and where there are only these."""
        if asked.own_galleries:
            return self._refined(asked, asked.length)
        if self.restrict_to is not None:
            return self._refined(asked, self.restrict_to)
        return self.search(asked, **shared)

    @property
    def is_sensible(self) -> bool:
        """False where ``tune`` need not try this combination."""
        return True

    @classmethod
    def shared_work(cls, rerankers: Sequence[Self], gallery: ArrayLike) -> dict[str, Any]:
        """What :meth:`search` of all these settings needs of the gallery, computed once; keywords of ``search``."""
        return {}

    @classmethod
    def sweep(cls, rerankers: Sequence[Self], asked: Retrieval) -> Iterator[tuple[int, Ranking]]:
        """``(place in rerankers, ranking)`` of each, in any order; what they share is computed once."""
        shared = cls.shared_work(rerankers, asked.gallery) if rerankers[0].restrict_to is None else {}
        for place, reranker in enumerate(rerankers):
            yield place, reranker.answer(asked, **shared)

    def to_config(self) -> Config:
        return asdict(self)

    @classmethod
    def from_config(cls, config: Config, tensors: Tensors) -> Self:
        return cls(**config)

    def _refined(self, asked: Retrieval, head: int) -> Ranking:
        shortlist = Shortlist(asked, head)
        numbers = shortlist.head * (4 * asked.items.dim + self.pair_cost * shortlist.head + 8)
        return shortlist.rerank(self.refine, numbers)
