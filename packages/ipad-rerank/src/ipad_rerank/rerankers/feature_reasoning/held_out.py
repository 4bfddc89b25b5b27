"""Held-out queries at several gallery sizes: mean AP before and after a reasoner, with a paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.bootstrap import Interval, paired_bootstrap
from ipad_rerank.metrics.relevance import Judged, without_relevant
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.steps import moved_queries
from ipad_rerank.search.groups import searches


class AtSize(NamedTuple):
    """Mean AP (0 to 1) in galleries of one size, and the upper end of the gain's interval."""

    size: int
    before: float
    after: float
    high: float


@dataclass(frozen=True)
class FitReport:
    """Mean AP (0 to 1) without and with the reasoner: the gain over all sizes, and what it is at each."""

    before: float
    after: float
    gain: Interval | None
    sizes: tuple[AtSize, ...]

    @property
    def is_gain(self) -> bool:
        """True where the gain's interval lies above 0, and no gallery size surely loses."""
        return self.gain is not None and self.gain.low > 0 and min(at.high for at in self.sizes) >= 0

    @property
    def best_size(self) -> int:
        """The largest gallery whose MAP comes within half a point of the best: larger ones need fewer sequences.

        By MAP, not by gain: behind a query expansion the gain is largest where the expansion did harm.
        """
        best = max(at.after for at in self.sizes)
        return max(at.size for at in self.sizes if at.after >= best - 0.005)

    @property
    def summary(self) -> str:
        gain = self.gain or Interval(0.0, 0.0, 0.0, 0.95, 0)
        return (
            f"MAP {100 * self.before:.2f} -> {100 * self.after:.2f}, {100 * gain.difference:+.2f} "
            f"(95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f}, {gain.queries} held-out queries)"
        )

    def __str__(self) -> str:
        lines = [f"Held out: {self.summary}"]
        for at in self.sizes:
            gain = 100 * (at.after - at.before)
            lines.append(f"  gallery {at.size}: {100 * at.before:.2f} -> {100 * at.after:.2f}, {gain:+.2f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "map_before": self.before,
            "map_after": self.after,
            "gain_interval": [self.gain.low, self.gain.high] if self.gain else [0.0, 0.0],
            "queries": self.gain.queries if self.gain else 0,
            "gallery_sizes": [{"size": at.size, "map_before": at.before, "map_after": at.after} for at in self.sizes],
        }


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
    ) -> None:
        self.unit, self.num_queries, self.sizes = unit, len(queries), sizes
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
        """Mean gain in AP over sizes and queries."""
        before, after = self._average_precisions(reasoner)
        return float(torch.nanmean(after - before))

    def report(self, reasoner: SequenceRefiner, seed: int) -> FitReport:
        """Before and after, with a bootstrap over queries."""
        before, after = self._average_precisions(reasoner)
        kept = ~torch.isnan(before).any(0)
        before, after = before[:, kept], after[:, kept]
        if not before.shape[1]:
            return FitReport(0.0, 0.0, None, tuple(AtSize(size, 0.0, 0.0, 0.0) for size in self.sizes))
        sizes = tuple(
            AtSize(size, float(b.mean()), float(a.mean()), paired_bootstrap(b, a, seed=seed).high)
            for size, b, a in zip(self.sizes, before, after, strict=True)
        )
        gain = paired_bootstrap(before.mean(0), after.mean(0), seed=seed)
        return FitReport(float(before.mean()), float(after.mean()), gain, sizes)

    @torch.no_grad()
    def _average_precisions(self, reasoner: SequenceRefiner) -> tuple[Tensor, Tensor]:
        """``(sizes, queries)`` each, float64 on the CPU; NaN where a query has nothing relevant."""
        before = torch.full((len(self.sizes), self.num_queries), float("nan"), dtype=torch.float64)
        after = before.clone()
        for search in self.searches:
            refined = search.relevant.clone()
            length = search.head.shape[1]
            for start in range(0, len(search.query), 16):
                part = slice(start, start + 16)
                unit = torch.cat([search.query[part][:, None], self.unit[search.head[part]]], dim=1)
                order = reasoner(unit)[:, 1:].argsort(dim=1, descending=True, stable=True)
                refined[part, :length] = search.relevant[part, :length].gather(1, order)
            before[search.at_size, search.places] = _average_precision(search.relevant)
            after[search.at_size, search.places] = _average_precision(refined)
        return before, after


def _average_precision(relevant: Tensor) -> Tensor:
    place = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64, device=relevant.device).expand(relevant.shape)
    total = relevant.sum(1, dtype=torch.float64)
    values = average_precision_of(Judged(relevant, place, total), relevant.shape[1])
    return without_relevant(values, total, "skip").cpu()
