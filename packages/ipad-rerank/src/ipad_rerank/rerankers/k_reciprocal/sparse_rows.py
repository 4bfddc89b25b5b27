"""Rows of different lengths: sparse matrices as three flat tensors, and sums that do not depend on their order.

Values are kept as whole multiples of 2^-40. Sums of such numbers in float64 are exact up to 2^12, so results are the
same in any order of summation: on a GPU, in chunks of any size, with the input permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_QUANTUM = 2.0**40


@dataclass(frozen=True)
class RaggedRows:
    """Row i's entries are ``lengths[i]`` of ``columns`` and of ``values``, from ``start[i]`` on.

    Args:
        start: ``(N,)`` int64.
        lengths: ``(N,)`` int64.
        columns: ``(E,)`` whole numbers.
        values: ``(E,)`` float64.
    """

    start: Tensor
    lengths: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def join(cls, counts: Sequence[Tensor], columns: Sequence[Tensor], values: Sequence[Tensor]) -> RaggedRows:
        """From pieces in row order; ``counts`` are the rows' lengths."""
        lengths = torch.cat(counts)
        return cls(lengths.cumsum(0) - lengths, lengths, torch.cat(columns), torch.cat(values))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Entries of ``rows (m,)``, in order: which of the m rows, column, value."""
        lengths = self.lengths[rows]
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        offset = self.start[rows] - (lengths.cumsum(0) - lengths)
        place = torch.arange(len(owner), device=rows.device) + offset[owner]
        return owner, self.columns[place], self.values[place]


def quantize(values: Tensor) -> Tensor:
    """The nearest multiples of 2^-40, float64."""
    return (values.double() * _QUANTUM).round() / _QUANTUM


def segment_sum(ids: Tensor, values: Tensor, count: int) -> Tensor:
    """``(count,)`` float64 sums of ``values`` by ``ids``."""
    return torch.bincount(ids, weights=values, minlength=count) if len(ids) else values.new_zeros(count)


def merge_equal(owner: Tensor, columns: Tensor, values: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Add up entries of equal ``(owner, column)``, without sorting.

    Args:
        owner: ``(E,)`` rows of ``table``.
        columns: ``(E,)`` columns of ``table``.
        values: ``(E,)`` float64.
        table: ``(rows, N)`` int32 scratch, need not be cleared: only places written here are read.
    """
    place = owner * table.shape[1] + columns
    number = torch.arange(len(place), dtype=torch.int32, device=place.device)
    flat = table.view(-1)
    flat[place] = number  # one of the equal entries wins
    winner = flat[place].long()
    wins = winner == number
    slot = wins.cumsum(0) - 1
    return owner[wins], columns[wins], segment_sum(slot[winner], values, int(wins.sum()))
