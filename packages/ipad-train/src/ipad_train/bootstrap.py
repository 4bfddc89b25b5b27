"""How sure a MAP, or a difference between two methods, is: bootstrap over queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """``first`` minus ``second`` in percent MAP, and the interval in which 95 % of the resampled differences lie."""

    first: str
    second: str
    mean: float
    low: float
    high: float


def paired_difference(
    names: tuple[str, str], first: np.ndarray, second: np.ndarray, resamples: int = 2000, seed: int = 0
) -> Difference:
    """The mean difference of two methods' AP over the same queries, with its 95 % percentile interval.

    Queries are drawn with replacement, ``resamples`` times; both methods keep a query's AP together, so what makes a query
    hard for both cancels.

    Args:
        names: Of both, for messages.
        first: ``(Q,)`` AP in [0, 1] of each query; ``(S, Q)`` for S seeds over the same queries, whose mean counts.
        second: The same of the other.
        resamples: How often the queries are drawn.
        seed: Of the draws.

    Raises:
        ValueError: shapes that differ, or no query.
    """
    if first.shape != second.shape:
        raise ValueError(f"{names[0]} and {names[1]} must have the same queries, got {first.shape} and {second.shape}")
    gains = 100 * np.atleast_2d(first - second).mean(axis=0)  # (Q,)
    if not len(gains):
        raise ValueError("there are no queries to compare")
    return Difference(*names, float(gains.mean()), *mean_interval(gains, resamples, seed))


def mean_interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of ``(Q,)`` values, Q at least 1, over resamples of them."""
    random = np.random.default_rng(seed)
    means = [values[random.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
