"""Held-out queries at several gallery sizes: mean AP before and after a reasoner, with a paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._sequences import expand


@dataclass(frozen=True)
class Comparison:
    """Mean AP (0 to 1) without and with the reasoner, over all sizes and per gallery size."""

    before: float
    after: float
    low: float
    high: float
    queries: int
    sizes: tuple[tuple[int, float, float, float], ...]
    """(gallery size, before, after, upper end of the gain's interval) each."""

    @property
    def worst(self) -> float:
        """The least upper end of the gain's interval over the sizes: below 0 where some size surely loses."""
        return min(high for *_, high in self.sizes)

    @property
    def best_size(self) -> int:
        """The largest gallery whose MAP comes within half a point of the best: larger ones need fewer sequences.

        By MAP, not by gain: behind a query expansion the gain is largest where the expansion did harm.
        """
        best = max(after for _, _, after, _ in self.sizes)
        return max(size for size, _, after, _ in self.sizes if after >= best - 0.005)

    @property
    def summary(self) -> str:
        gain = self.after - self.before
        return (
            f"MAP {100 * self.before:.2f} -> {100 * self.after:.2f}, {100 * gain:+.2f} "
            f"(95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f}, {self.queries} held-out queries)"
        )

    def __str__(self) -> str:
        lines = [f"Held out: {self.summary}"]
        for size, before, after, _ in self.sizes:
            lines.append(f"  gallery {size}: {100 * before:.2f} -> {100 * after:.2f}, {100 * (after - before):+.2f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "map_before": self.before,
            "map_after": self.after,
            "gain_interval": [self.low, self.high],
            "queries": self.queries,
            "gallery_sizes": [{"size": s, "map_before": b, "map_after": a} for s, b, a, _ in self.sizes],
        }


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
        expanders: Sequence[Any],
        generator: torch.Generator,
    ) -> None:
        self.unit = unit
        self.searches: list[
            tuple[int, Tensor, Tensor, Tensor, Tensor]
        ] = []  # size, places, unit queries, head, relevance
        self.num_queries = len(queries)
        self.sizes = sizes
        pools = {int(group): pool[groups[pool] == group] for group in groups[queries].unique()}
        for size in sizes:
            for group, rows in pools.items():
                places = (groups[queries] == group).nonzero()[:, 0]
                if len(rows) < 4:
                    continue
                drawn = rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]
                n = max(3, min(n_r, len(drawn) // 2))
                own = expand(expanders, unit[queries[places]], unit[drawn])
                order = (own @ unit[drawn].T).argsort(dim=1, descending=True, stable=True)
                relevance = labels[drawn][order] == labels[queries[places]][:, None]
                self.searches.append((size, places, own, drawn[order[:, : n - 1]], relevance))

    def gain(self, reasoner: Any) -> float:
        """Mean gain in AP over sizes and queries."""
        before, after = self._average_precisions(reasoner)
        return float(torch.nanmean(after - before))

    def compare(self, reasoner: Any, seed: int, resamples: int = 2000) -> Comparison:
        """Before and after, with a bootstrap over queries."""
        before, after = self._average_precisions(reasoner)
        kept = ~torch.isnan(before).any(0)
        before, after = before[:, kept], after[:, kept]
        if not before.shape[1]:
            return Comparison(0.0, 0.0, 0.0, 0.0, 0, tuple((size, 0.0, 0.0, 0.0) for size in self.sizes))
        gains = after - before  # (sizes, queries)
        generator = torch.Generator().manual_seed(seed)
        picks = torch.randint(gains.shape[1], (resamples, gains.shape[1]), generator=generator)
        ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
        low, high = gains.mean(0)[picks].mean(1).quantile(ends).tolist()
        sizes = tuple(
            (size, float(b.mean()), float(a.mean()), float((a - b)[picks].mean(1).quantile(ends[1])))
            for size, b, a in zip(self.sizes, before, after, strict=True)
        )
        return Comparison(float(before.mean()), float(after.mean()), low, high, gains.shape[1], sizes)

    @torch.no_grad()
    def _average_precisions(self, reasoner: Any) -> tuple[Tensor, Tensor]:
        """``(sizes, queries)`` each, float64 on the CPU; NaN where a query has nothing relevant."""
        before = torch.full((len(self.sizes), self.num_queries), float("nan"), dtype=torch.float64)
        after = before.clone()
        for size, places, own, head, relevance in self.searches:
            refined = relevance.clone()
            for start in range(0, len(own), 16):
                part = slice(start, start + 16)
                unit = torch.cat([own[part][:, None], self.unit[head[part]]], dim=1)
                order = reasoner(unit)[:, 1:].argsort(dim=1, descending=True, stable=True)
                refined[part, : head.shape[1]] = relevance[part, : head.shape[1]].gather(1, order)
            row = self.sizes.index(size)
            before[row, places.cpu()] = _average_precision(relevance)
            after[row, places.cpu()] = _average_precision(refined)
        return before, after


def _average_precision(relevance: Tensor) -> Tensor:
    relevant = relevance.double()
    ranks = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64, device=relevant.device)
    precision = relevant.cumsum(1) / ranks
    return ((precision * relevant).sum(1) / relevant.sum(1)).cpu()  # 0 / 0 = NaN: no relevant item
