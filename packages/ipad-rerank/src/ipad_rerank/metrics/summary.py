"""From per-query values to numbers: means over all queries, per group, macro; differences with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.search.labels import as_labels, pair_ids
from ipad_rerank.search.memory import batches
from ipad_rerank.search.vectors import ArrayLike, number_in, one_of, positive_int

Averaging = Literal["query", "group", "label"]


def average(
    values: ArrayLike,
    query_groups: ArrayLike | None = None,
    query_labels: ArrayLike | None = None,
    *,
    weighting: Averaging = "query",
) -> float:
    """Mean of per-query values, NaN (skipped queries) left out.

    Args:
        values: ``(Q,)`` of any measure.
        query_groups: ``(Q,)``; without them all queries are one group.
        query_labels: ``(Q,)``, for "label".
        weighting: "query": every query weighs the same. "group": mean of the groups' means. "label": mean of the means
            of each label of each group.

    Raises:
        ValueError: no value is left; an unknown weighting; labels missing for "label".
    """
    numbers = _numbers(values)
    groups = _whole(query_groups, "query_groups", len(numbers))
    if one_of(get_args(Averaging), weighting, "weighting") == "label":
        if query_labels is None:
            raise ValueError('weighting="label" needs query_labels')
        groups = pair_ids(groups, _whole(query_labels, "query_labels", len(numbers)))
    if bool(torch.isnan(numbers).all()):
        raise ValueError("no query is left to average: none has a relevant gallery item")
    return float((numbers if weighting == "query" else _group_means(numbers, groups)[1]).nanmean())


def per_group(values: ArrayLike, query_groups: ArrayLike) -> dict[int, float]:
    """Mean of each group's queries, NaN left out; a group with nothing left has NaN."""
    numbers = _numbers(values)
    ids, means = _group_means(numbers, _whole(query_groups, "query_groups", len(numbers)))
    return dict(zip(ids.tolist(), means.tolist(), strict=True))


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
    number_in("(0, 1)", confidence, "confidence")
    samples = positive_int(samples, "samples")
    gains = second - first
    gains = gains[~torch.isnan(gains)]
    if not len(gains):
        raise ValueError("no pair of values is left to compare")
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(samples, dtype=torch.float64)
    for part in batches(samples, 64 * len(gains), gains.device):
        picks = torch.randint(len(gains), (part.stop - part.start, len(gains)), generator=generator)
        means[part] = gains[picks].mean(1)
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return Interval(float(gains.mean()), low, high, confidence, len(gains))


def _group_means(numbers: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """The groups, and the mean of each, NaN left out."""
    ids, places = groups.unique(return_inverse=True)
    kept = ~torch.isnan(numbers)
    sums = torch.bincount(places[kept], numbers[kept], len(ids))
    return ids, sums / torch.bincount(places[kept], minlength=len(ids))


def _numbers(values: ArrayLike) -> Tensor:
    numbers = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=float))
    if numbers.ndim != 1:
        raise ValueError(f"values must have shape (Q,), got {tuple(numbers.shape)}")
    return numbers.double()


def _whole(value: ArrayLike | None, name: str, length: int) -> Tensor:
    return as_labels(value, name, length, "values") if value is not None else torch.zeros(length, dtype=torch.int64)
