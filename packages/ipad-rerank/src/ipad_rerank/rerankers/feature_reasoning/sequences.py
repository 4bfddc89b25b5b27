"""Training sequences: queries with their best candidates in random galleries of random size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ipad_rerank.rerankers.base import moved_queries
from ipad_rerank.rerankers.protocols import Reranker

SMALL_GALLERIES = 0.15
"""Share of the galleries drawn below ``2 n_r``."""

SHORT_LISTS = 0.25
"""Share of the sequences that are cut: engines do not always return as many candidates as were asked for."""

SHORTEST = 20
"""Candidates that a cut sequence keeps at least."""


class Sequences(NamedTuple):
    """``unit (B, n, D)`` with node 0 the query, and ``is_positive (B, n)``."""

    unit: Tensor
    is_positive: Tensor


@dataclass(frozen=True)
class TrainingSet:
    """What the sequences of a fit and its held-out queries are drawn from.

    Args:
        unit: ``(N, D)`` unit vectors.
        labels: ``(N,)``.
        groups: ``(N,)``.
        pool: Rows that may be drawn for sequences, and that galleries are made of.
        n_r: Longest sequence; a gallery of G rows gives at most ``G // 2``.
        before: Re-rankers that move the queries before the search that makes a sequence.
        generator: CPU generator that all draws come from.
    """

    unit: Tensor
    labels: Tensor
    groups: Tensor
    pool: Tensor
    n_r: int
    before: Sequence[Reranker]
    generator: torch.Generator


class SequenceSampler:
    """Draws batches; every batch searches one random gallery within one group.

    A class is asked for in proportion to the square root of its size. Drawn as they come, queries of the largest classes
    would teach nearly alone, and what is learnt from them harms small ones.

    Args:
        data: What is drawn from.
        gallery_sizes: Smallest and largest gallery, or None for just above n_r to the largest group.
    """

    def __init__(self, data: TrainingSet, gallery_sizes: tuple[int, int] | None = None) -> None:
        self.data, self.n_r, self.generator = data, data.n_r, data.generator
        labels, groups, pool, n_r = data.labels, data.groups, data.pool, data.n_r
        ids, counts = groups[pool].unique(return_counts=True)
        usable = [pool[groups[pool] == group] for group, count in zip(ids, counts, strict=True) if count >= 20]
        self.members = [rows for rows in usable if len(labels[rows].unique()) > 1]
        if not self.members:
            raise ValueError("no group has 20 training vectors of two classes; a fit needs at least one such group")
        self.weights = torch.tensor([float(len(rows)) for rows in self.members])
        self.asking = [_evened(labels[rows]) for rows in self.members]
        most = max(len(rows) for rows in self.members) - 1
        low, high = gallery_sizes if gallery_sizes is not None else (n_r + n_r // 25, most)
        if not 4 <= low <= high:
            raise ValueError(
                f"gallery_sizes must be (smallest, largest) with 4 <= smallest <= largest, got {low, high}"
            )
        self.gallery_range = (min(int(low), most), min(int(high), most))

    def draw(self, count: int, gallery_size: int | None = None, cut: bool = False) -> Sequences:
        """``count`` sequences (fewer where the group is small) from a gallery of the given or a random size.

        With ``cut`` some are shorter than the gallery would allow, as where a search returned few candidates.
        """
        member = int(torch.multinomial(self.weights, 1, generator=self.generator))
        rows = self.members[member]
        if gallery_size is None:
            gallery_size = self._random_size()
        count = max(1, min(count, len(rows) // 10))
        gallery_size = min(gallery_size, len(rows) - count)
        asked = torch.multinomial(self.asking[member], count, generator=self.generator)
        order = torch.randperm(len(rows), generator=self.generator)
        others = order[~torch.isin(order, asked)][:gallery_size]
        query, gallery = rows[asked.to(rows.device)], rows[others.to(rows.device)]
        n = self._random_length(max(3, min(self.n_r, gallery_size // 2)), cut)
        unit, labels = self.data.unit, self.data.labels
        moved = moved_queries(self.data.before, unit[query], unit[gallery])
        best = gallery[(moved @ unit[gallery].T).topk(n - 1, dim=1).indices]
        nodes = torch.cat([query[:, None], best], dim=1)
        return Sequences(torch.cat([moved[:, None], unit[best]], dim=1), labels[nodes] == labels[query][:, None])

    def _random_length(self, longest: int, cut: bool) -> int:
        """``longest``, or now and then a length log-uniform down to a query and 20 candidates."""
        if not cut or longest <= SHORTEST + 1:
            return longest
        chosen, share = torch.rand(2, generator=self.generator).tolist()
        return round((SHORTEST + 1) ** (1 - share) * longest**share) if chosen < SHORT_LISTS else longest

    def _random_size(self) -> int:
        """Uniform above ``2 n_r``, where sequences are full; one in seven is smaller, log-uniform."""
        low, high = self.gallery_range
        full = min(max(low, 2 * self.n_r), high)
        small, share = torch.rand(2, generator=self.generator).tolist()
        if low < full and (small < SMALL_GALLERIES or full == high):
            return round(math.exp(math.log(low) + share * (math.log(full) - math.log(low))))
        return round(full + share * (high - full))


def _evened(labels: Tensor) -> Tensor:
    """``(R,)`` on the CPU: how likely each row is to ask, so that a class of ``n`` rows asks as ``n ** 0.5`` times."""
    _, number, counts = labels.unique(return_inverse=True, return_counts=True)
    return counts[number].double().rsqrt().cpu()
