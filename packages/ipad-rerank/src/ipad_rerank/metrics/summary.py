"""From per-query values to numbers: over all queries, per group, macro."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.search.labels import as_labels
from ipad_rerank.search.vectors import ArrayLike

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
    if weighting == "label":
        if query_labels is None:
            raise ValueError('weighting="label" needs query_labels')
        labels = _whole(query_labels, "query_labels", len(numbers)).unique(return_inverse=True)[1]
        groups = groups.unique(return_inverse=True)[1] * (int(labels.max()) + 1 if len(labels) else 1) + labels
    elif weighting not in ("query", "group"):
        raise ValueError(f'weighting must be "query", "group" or "label", got {weighting!r}')
    kept = ~torch.isnan(numbers)
    if not bool(kept.any()):
        raise ValueError("no query is left to average: none has a relevant gallery item")
    numbers, groups = numbers[kept], groups[kept]
    if weighting == "query":
        return float(numbers.mean())
    return float(_group_means(numbers, groups)[1].mean())


def per_group(values: ArrayLike, query_groups: ArrayLike) -> dict[int, float]:
    """Mean of each group's queries, NaN left out; a group with nothing left has NaN."""
    numbers = _numbers(values)
    groups = _whole(query_groups, "query_groups", len(numbers))
    found = dict.fromkeys(groups.unique().tolist(), float("nan"))
    kept = ~torch.isnan(numbers)
    ids, means = _group_means(numbers[kept], groups[kept])
    return found | dict(zip(ids.tolist(), means.tolist(), strict=True))


def _group_means(numbers: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    ids, inverse, counts = groups.unique(return_inverse=True, return_counts=True)
    return ids, torch.zeros(len(ids), dtype=torch.float64).index_add_(0, inverse, numbers) / counts


def _numbers(values: ArrayLike) -> Tensor:
    numbers = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=float))
    if numbers.ndim != 1:
        raise ValueError(f"values must have shape (Q,), got {tuple(numbers.shape)}")
    return numbers.double()


def _whole(value: ArrayLike | None, name: str, length: int) -> Tensor:
    if value is None:
        return torch.zeros(length, dtype=torch.int64)
    return as_labels(value, name, length, "values")
