"""Labelled queries that search a labelled gallery: what tuning, comparing and calibrating go through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from ipad_rerank.metrics.objectives import measures_named
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.search.labels import Rows, searches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array


@dataclass(frozen=True, eq=False)
class LabelledSearch:
    """Some queries with their ranking by cosine, the labels of queries and gallery, and which queries they are."""

    asked: Retrieval
    labels: tuple[Array, Array]
    query_rows: Rows

    @cached_property
    def _judge(self) -> Judge:
        return Judge(len(self.asked.ranking), None, *self.labels)

    @property
    def relevant(self) -> Tensor:
        """``(Q,)`` relevant items of each query in the gallery."""
        return self._judge.total

    @property
    def classes(self) -> Tensor:
        """``(G,)`` a number for each label of the gallery; negative without one."""
        return self._judge.gallery_classes

    @property
    def query_classes(self) -> Tensor:
        """``(Q,)`` the same of the queries."""
        return self._judge.query_classes

    def measure(self, names: tuple[str, ...], ranking: Ranking | None = None) -> dict[str, Tensor]:
        """``(Q,)`` values of the measures of a ranking, by default the one by cosine."""
        return self._judge.measured(measures_named(names), self.asked.ranking if ranking is None else ranking)


def labelled_searches(
    query: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    query_groups: Array | None = None,
    gallery_groups: Array | None = None,
    *,
    k: int | None = None,
    on_unfamiliar: str = "warn",
) -> Iterator[LabelledSearch]:
    """One search, or with groups one a group; ``k`` is the length of the lists."""
    options = Options(on_unfamiliar=on_unfamiliar)
    query_labels, gallery_labels = (
        np.asarray(v) if isinstance(v, list) else v for v in (query_labels, gallery_labels)
    )
    for query_rows, gallery_rows in searches(query_groups, gallery_groups):
        asked = Retrieval(query[query_rows], gallery[gallery_rows], k=k, options=options)
        labels = (query_labels[query_rows], gallery_labels[gallery_rows])
        yield LabelledSearch(asked.after(asked.ranking), labels, query_rows)
