"""Methods on the queries that a table reports on."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.metrics.average_precision import oracle_average_precision
from ipad_rerank.metrics.objectives import REPORTED, joined
from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.selection.table import Row


class Report:
    """Methods on the queries that the table reports on."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, objective: str, seed: int) -> None:
        self.objective, self.seed, self.gallery_size = objective, seed, len(gallery)
        self.names = tuple(dict.fromkeys((objective, *REPORTED)))
        labels = (query.labels, gallery.labels, query.group_ids, gallery.group_ids)
        start = time.perf_counter()
        self.parts = list(labelled_searches(query.embeddings, gallery.embeddings, *labels))
        self.seconds = time.perf_counter() - start
        self.relevant = torch.cat([part.relevant for part in self.parts])
        self.before = joined([part.measure(self.names) for part in self.parts])

    def row(self, name: str, method: Reranker | None) -> Row:
        """The method's row; without one that of the search."""
        found, seconds = self.before, self.seconds
        if method is not None:
            start = time.perf_counter()
            rankings = [answer_of(method, part.asked) for part in self.parts]
            seconds = time.perf_counter() - start
            pairs = zip(self.parts, rankings, strict=True)
            found = joined([part.measure(self.names, ranking) for part, ranking in pairs])
        return Row.of(name, self.before, found, self.relevant, self.objective, seconds, self.seed)

    def oracle(self, head: int) -> Tensor:
        """``(Q,)`` AP if the first ``head`` were in perfect order."""
        found = [oracle_average_precision(part.asked.ranking, *part.labels, head) for part in self.parts]
        return torch.cat([torch.as_tensor(values) for values in found])
