"""Held-out queries at several gallery sizes: what a reasoner brings there, by several measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ipad_rerank.metrics.bootstrap import paired_bootstrap
from ipad_rerank.metrics.objectives import BLENDS, REPORTED, TOLERANCE, chosen_blend, measure_named
from ipad_rerank.metrics.relevance import Judged, without_relevant
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.feature_reasoning.report import AtSize, FitReport, Gain
from ipad_rerank.rerankers.feature_reasoning.scoring import finish, refined_cosines
from ipad_rerank.rerankers.feature_reasoning.sequences import SHORTEST
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.steps import moved_queries
from ipad_rerank.search.groups import searches

Values = dict[str, Tensor]
"""``(sizes, queries)`` of each measure, float64 on the CPU; NaN where a query has nothing relevant."""


class _Search(NamedTuple):
    """Some held-out queries in one gallery: which, their vectors as moved, best rows, relevance of the whole list."""

    at_size: int
    places: Tensor
    query: Tensor
    head: Tensor
    relevant: Tensor


class HeldOut:
    """Queries that no training sequence holds, over random galleries of the training vectors of their group."""

    def __init__(
        self,
        unit: Tensor,
        labels: Tensor,
        groups: Tensor,
        queries: Tensor,
        pool: Tensor,
        n_r: int,
        sizes: list[int],
        before: Sequence[Reranker],
        generator: torch.Generator,
        objective: str = "map",
    ) -> None:
        self.unit, self.num_queries, self.sizes, self.objective = unit, len(queries), sizes, objective
        self.measures = {name: measure_named(name) for name in dict.fromkeys((objective, *REPORTED))}
        self.searches: list[_Search] = []
        for number, size in enumerate(sizes):
            for query_rows, gallery_rows in searches(groups[queries], groups[pool]):
                if len(gallery_rows) < 4:
                    continue
                places = torch.as_tensor(query_rows, device=unit.device)
                rows = pool[torch.as_tensor(gallery_rows, device=unit.device)]
                drawn = rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]
                n = max(3, min(n_r, len(drawn) // 2))
                query = moved_queries(before, unit[queries[places]], unit[drawn])
                order = (query @ unit[drawn].T).argsort(dim=1, descending=True, stable=True)
                relevant = labels[drawn][order] == labels[queries[places]][:, None]
                self.searches.append(_Search(number, places.cpu(), query, drawn[order[:, : n - 1]], relevant))

    def gain(self, reasoner: SequenceRefiner) -> float:
        """Mean gain in the objective over sizes and queries, at the reasoner's blend."""
        before, (after,) = self._values(reasoner, (reasoner.blend,))
        return float(torch.nanmean(after[self.objective] - before[self.objective]))

    def best_blend(self, reasoner: SequenceRefiner) -> float:
        """The blend that raises the objective most without lowering the head; the largest of equals."""
        before, found = self._values(reasoner, BLENDS)
        gains = [{name: float(torch.nanmean(after[name] - before[name])) for name in before} for after in found]
        return chosen_blend(dict(zip(BLENDS, gains, strict=True)), self.objective)

    def shortest(self, reasoner: SequenceRefiner) -> int:
        """Candidates from which on neither MAP nor P@10 falls, where that few are all there is (see TOLERANCE)."""
        longest = max((search.head.shape[1] for search in self.searches), default=2)
        lengths = [min(longest, round(SHORTEST * 1.6**step)) for step in range(12)]
        shortest = 2
        for length in sorted({length for length in lengths if length < longest}):
            before, (after,) = self._values(reasoner, (reasoner.blend,), length, self.sizes[-1])
            names = ("map", "precision@10")
            if min(float(torch.nanmean(after[name] - before[name])) for name in names) < -TOLERANCE:
                shortest = length + 1
        return shortest

    def report(self, reasoner: SequenceRefiner, seed: int) -> FitReport:
        """Before and after, with a bootstrap over queries."""
        before, (after,) = self._values(reasoner, (reasoner.blend,))
        kept = ~torch.isnan(before[self.objective]).any(0)
        if not bool(kept.any()):
            return FitReport(self.objective, {}, tuple(AtSize(size, 0.0, 0.0, 0.0) for size in self.sizes))
        gains, b, a = {}, {}, {}
        for name in before:
            b[name], a[name] = before[name][:, kept], after[name][:, kept]
            interval = paired_bootstrap(b[name].mean(0), a[name].mean(0), seed=seed)
            gains[name] = Gain(float(b[name].mean()), float(a[name].mean()), interval)
        rows = zip(self.sizes, b[self.objective], a[self.objective], strict=True)
        sizes = (
            AtSize(n, float(x.mean()), float(y.mean()), paired_bootstrap(x, y, seed=seed).high) for n, x, y in rows
        )
        return FitReport(self.objective, gains, tuple(sizes))

    @torch.no_grad()
    def _values(
        self, reasoner: SequenceRefiner, blends: Sequence[float], depth: int | None = None, size: int | None = None
    ) -> tuple[Values, list[Values]]:
        """Before, and after at each of ``blends``; with ``depth`` the lists end there, with ``size`` that gallery only."""
        empty = torch.full((len(self.sizes), self.num_queries), float("nan"), dtype=torch.float64)
        before = {name: empty.clone() for name in self.measures}
        after = [{name: empty.clone() for name in self.measures} for _ in blends]
        for search in self.searches:
            if size is not None and self.sizes[search.at_size] != size:
                continue
            relevant, head = search.relevant[:, :depth], search.head[:, :depth]
            total = search.relevant.sum(1, dtype=torch.float64)
            self._fill(before, search, relevant, total)
            for found, moved in zip(after, self._reordered(reasoner, search, relevant, head, blends), strict=True):
                self._fill(found, search, moved, total)
        return before, after

    def _reordered(
        self, reasoner: SequenceRefiner, search: _Search, relevant: Tensor, head: Tensor, blends: Sequence[float]
    ) -> Iterator[Tensor]:
        """Relevance of the lists with their heads re-ordered, at each blend."""
        moved = [relevant.clone() for _ in blends]
        length = head.shape[1]
        for start in range(0, len(search.query), 16):
            part = slice(start, start + 16)
            query, candidates = search.query[part], self.unit[head[part]]
            refined = refined_cosines(reasoner, query, candidates)
            for result, blend in zip(moved, blends, strict=True):
                order = finish(refined, query, candidates, blend).argsort(dim=1, descending=True, stable=True)
                result[part, :length] = relevant[part, :length].gather(1, order)
        yield from moved

    def _fill(self, values: Values, search: _Search, relevant: Tensor, total: Tensor) -> None:
        place = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64, device=relevant.device)
        judged = Judged(relevant, place.expand(relevant.shape), total)
        for name, measure in self.measures.items():
            values[name][search.at_size, search.places] = without_relevant(measure(judged), total, "skip").cpu()
