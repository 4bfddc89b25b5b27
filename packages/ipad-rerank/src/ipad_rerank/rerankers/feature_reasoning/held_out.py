"""Held-out queries at several gallery sizes: what a reasoner brings there, by several measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import BLENDS, REPORTED, chosen_blend, is_harmless, measures_named
from ipad_rerank.metrics.relevance import Judged, without_relevant
from ipad_rerank.rerankers.base import moved_queries
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner, finish, refined_cosines
from ipad_rerank.rerankers.feature_reasoning.report import FitReport, Gain
from ipad_rerank.rerankers.feature_reasoning.sequences import SHORTEST, TrainingSet
from ipad_rerank.search.labels import searches
from ipad_rerank.search.memory import slices

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
    """Queries that no training sequence holds, over random galleries of the training vectors of their group.

    Args:
        data: What the galleries are drawn from.
        queries: Rows of the queries.
        sizes: Of the galleries.
        objective: What is to be raised.
    """

    def __init__(self, data: TrainingSet, queries: Tensor, sizes: list[int], objective: str = "map") -> None:
        self.unit, self.num_queries, self.sizes, self.objective = data.unit, len(queries), sizes, objective
        self.measures = measures_named((objective, *REPORTED))
        self.searches: list[_Search] = []
        unit, labels, device = data.unit, data.labels, data.unit.device
        for number, size in enumerate(sizes):
            for query_rows, gallery_rows in searches(data.groups[queries], data.groups[data.pool]):
                if len(gallery_rows) < 4:
                    continue
                places = torch.as_tensor(query_rows, device=device)
                asked, rows = queries[places], data.pool[torch.as_tensor(gallery_rows, device=device)]
                drawn = rows[torch.randperm(len(rows), generator=data.generator)[:size].to(device)]
                n = max(3, min(data.n_r, len(drawn) // 2))
                query = moved_queries(data.before, unit[asked], unit[drawn])
                order = (query @ unit[drawn].T).argsort(dim=1, descending=True, stable=True)
                relevant = labels[drawn][order] == labels[asked][:, None]
                self.searches.append(_Search(number, places.cpu(), query, drawn[order[:, : n - 1]], relevant))

    def gain(self, reasoner: SequenceRefiner) -> float:
        """Mean gain in the objective over sizes and queries, at the reasoner's blend."""
        before, (after,) = self._values(reasoner, (reasoner.blend,))
        return float(torch.nanmean(after[self.objective] - before[self.objective]))

    def best_blend(self, reasoner: SequenceRefiner) -> float:
        """The blend to use, see :func:`chosen_blend`."""
        before, found = self._values(reasoner, BLENDS)
        changes = [{name: (after[name] - before[name]).nanmean() for name in before} for after in found]
        gains = [{name: float(mean.nan_to_num()) for name, mean in change.items()} for change in changes]
        return chosen_blend(dict(zip(BLENDS, gains, strict=True)), self.objective)

    def blends(self, reasoner: SequenceRefiner) -> tuple[tuple[int, float], ...]:
        """The blend for lists of at least so many candidates, where they end there; 0 for hands off.

        The largest gain in the objective, where MAP and P@10 surely do not fall by more than TOLERANCE in a gallery of any
        size; shorter lists never take a larger blend than longer ones.
        """
        longest = max((search.head.shape[1] for search in self.searches), default=0)
        lengths = {round(SHORTEST * 1.6**step) for step in range(12)}
        blend = reasoner.blend
        found = [(longest, blend)]
        for length in sorted((length for length in lengths if length < longest), reverse=True):
            tried = [other for other in BLENDS if other <= blend] or [blend] * (blend > 0)
            before, after = self._values(reasoner, tried, length)
            safe = [pair for pair in zip(tried, after, strict=True) if _is_safe(before, pair[1])]
            means = {other: float(torch.nanmean(values[self.objective])) for other, values in safe}
            blend = max(means, key=means.__getitem__, default=0.0)
            found.append((length, blend))
        return tuple(reversed(found))

    def report(self, reasoner: SequenceRefiner, seed: int) -> FitReport:
        """Before and after, with a bootstrap over queries."""
        before, (after,) = self._values(reasoner, (reasoner.blend,))
        kept = ~torch.isnan(before[self.objective]).any(0)
        pairs = {name: (before[name][:, kept], after[name][:, kept]) for name in before}
        gains = {name: Gain.of(b.mean(0), a.mean(0), seed) for name, (b, a) in pairs.items()}
        at_size = (Gain.of(b, a, seed) for b, a in zip(*pairs[self.objective], strict=True))
        return FitReport(self.objective, gains, dict(zip(self.sizes, at_size, strict=True)))

    @torch.no_grad()
    def _values(
        self, reasoner: SequenceRefiner, blends: Sequence[float], depth: int | None = None
    ) -> tuple[Values, list[Values]]:
        """Before, and after at each of ``blends``; with ``depth`` the lists end there."""
        empty = torch.full((len(self.sizes), self.num_queries), float("nan"), dtype=torch.float64)
        before, *after = ({name: empty.clone() for name in self.measures} for _ in (None, *blends))
        for search in self.searches:
            relevant, head = search.relevant[:, :depth], search.head[:, :depth]
            moved = [relevant.clone() for _ in blends]
            for part in slices(len(search.query), 16):
                query, candidates = search.query[part], self.unit[head[part]]
                refined = refined_cosines(reasoner, query, candidates)
                for result, blend in zip(moved, blends, strict=True):
                    order = finish(refined, query, candidates, blend).argsort(dim=1, descending=True, stable=True)
                    result[part, : head.shape[1]] = relevant[part, : head.shape[1]].gather(1, order)
            total = search.relevant.sum(1, dtype=torch.float64)
            for values, lists in zip((before, *after), (relevant, *moved), strict=True):
                judged = Judged.of_one_group(lists, total)
                for name, measure in self.measures.items():
                    found = without_relevant(measure(judged), total, "skip")
                    values[name][search.at_size, search.places] = found.cpu()
        return before, after


def _is_safe(before: Values, after: Values) -> bool:
    """Do MAP and P@10 keep their level in a gallery of every size?"""
    changes = [after[name] - before[name] for name in ("map", "precision@10")]
    return all(is_harmless(at_size) for change in changes for at_size in change)
