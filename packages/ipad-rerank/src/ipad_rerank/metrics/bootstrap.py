"""Is a difference between two rankings of the same queries more than chance?"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ipad_rerank.metrics.summary import _numbers
from ipad_rerank.search.memory import rows_that_fit
from ipad_rerank.search.vectors import ArrayLike, positive_int


@dataclass(frozen=True)
class Interval:
    """A mean difference with its confidence interval, in the unit of the values."""

    difference: float
    low: float
    high: float
    confidence: float
    queries: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired_bootstrap(
    before: ArrayLike, after: ArrayLike, *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of ``after - before`` over resampled queries.

    Pairs in which either value is NaN (a skipped query) are left out. Queries are taken as independent: where one
    image asks several times, the interval is too narrow.

    Args:
        before: ``(Q,)`` values of any per-query measure.
        after: ``(Q,)`` values of the same queries.
        confidence: Of the interval, between 0 and 1.
        samples: Resamples of the queries.
        seed: Same seed, same interval.

    Raises:
        ValueError: lengths that differ, no pair left, confidence outside (0, 1).
    """
    first, second = _numbers(before), _numbers(after)
    if len(first) != len(second):
        raise ValueError(f"before has {len(first)} queries, after has {len(second)}; they must be the same queries")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    samples = positive_int(samples, "samples")
    gains = second - first
    gains = gains[~torch.isnan(gains)]
    if not len(gains):
        raise ValueError("no pair of values is left to compare")
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(samples, dtype=torch.float64)
    step = rows_that_fit(64 * len(gains), gains.device)
    for start in range(0, samples, step):
        count = min(step, samples - start)
        picks = torch.randint(len(gains), (count, len(gains)), generator=generator)
        means[start : start + count] = gains[picks].mean(1)
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return Interval(float(gains.mean()), low, high, confidence, len(gains))
