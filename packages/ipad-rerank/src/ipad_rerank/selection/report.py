"""Methods on the queries that a table reports on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.metrics.objectives import REPORTED, joined, per_query
from ipad_rerank.metrics.oracle import oracle_average_precision
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.groups import searches
from ipad_rerank.selection.table import Row


class Report:
    """Methods on the queries that the table reports on."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, objective: str, seed: int) -> None:
        self.query, self.gallery, self.objective, self.seed = query, gallery, objective, seed
        self.names = tuple(dict.fromkeys((objective, *REPORTED)))
        self.relevant = torch.cat([Judge(*labels, None, None, len(labels[0])).total for _, labels in self._searches()])
        start = time.perf_counter()
        self.rankings = [rank(*vectors) for vectors, _ in self._searches()]
        self.seconds = time.perf_counter() - start
        found = zip(self.rankings, self._searches(), strict=True)
        self.before = joined([per_query(self.names, ranking, *labels) for ranking, (_, labels) in found])

    def row(self, name: str, method: Reranker | None) -> Row:
        """The method's row; without one that of the search."""
        if method is None:
            return Row.of(name, self.before, self.before, self.relevant, self.objective, self.seconds, self.seed)
        parts, seconds = [], 0.0
        for ranking, (vectors, labels) in zip(self.rankings, self._searches(), strict=True):
            start = time.perf_counter()
            found = method.rerank(*vectors, ranking)
            seconds += time.perf_counter() - start
            parts.append(per_query(self.names, found, *labels))
        return Row.of(name, self.before, joined(parts), self.relevant, self.objective, seconds, self.seed)

    def oracle(self, head: int) -> Tensor:
        """``(Q,)`` AP if the first ``head`` were in perfect order."""
        found = zip(self.rankings, self._searches(), strict=True)
        return torch.cat([torch.as_tensor(oracle_average_precision(r, *labels, head)) for r, (_, labels) in found])

    def _searches(self) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
        """Vectors and labels of queries and gallery, group by group."""
        query, gallery = self.query, self.gallery
        for asked, met in searches(query.group_ids, gallery.group_ids):
            yield (query.embeddings[asked], gallery.embeddings[met]), (query.labels[asked], gallery.labels[met])
