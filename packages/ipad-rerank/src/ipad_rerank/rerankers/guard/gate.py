"""For which queries to act: a regression from what a census tells of them to the gain, and a threshold on it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import standard_error
from ipad_rerank.rerankers.saving import Config

BINS = (1, 10, 50, 200)
"""Queries are looked at by their number of relevant items, in bins that start here."""

TOLD = 8
"""Features that tell of a class."""

SMALLEST_BIN = 5
_FOLDS = 5
_RIDGE = 10.0
_MOST = 0.3  # gains count up to this: a few extreme queries would decide everything
_ENOUGH = 50  # queries of a bin that weigh as much as any number of them
_THINNED = 0.3  # weight of all queries in thinned galleries beside that of all others


@dataclass(frozen=True, eq=False)
class Known:
    """Queries whose gain is known: all in their galleries, and behind them some that asked again in thinned ones.

    Args:
        features: ``(Q, F)`` float64.
        relevant: ``(Q,)`` relevant items of each query.
        weights: ``(N,)`` how much each of the first N counts; the others are in thinned galleries.
        numbers: ``(Q,)`` of each query; one that asks again has the number that it had.
        classes: ``(Q,)`` a number for each class, and others for the thinned classes of each round.
    """

    features: Tensor
    relevant: Tensor
    weights: Tensor
    numbers: Tensor
    classes: Tensor

    def gain(self, gains: Tensor) -> float:
        """Mean of ``(Q,)``, over galleries as they are."""
        return float((gains[: len(self.weights)] * self.weights).sum() / self.weights.sum())

    def risk(self, gains: Tensor) -> float:
        """How much groups of queries whose gains are ``(Q,)`` may lose elsewhere: expected squares, summed over groups.

        A group is a bin of queries in galleries as they are, or one in thinned galleries; groups of a few queries are left
        out. In another gallery, with other items of its classes, its mean is taken to be normal around the one seen, with
        the variance of the means of its bin's classes, pooled over both groups, by the number of the group's classes.
        """
        total, cut = 0.0, len(self.weights)
        for number in range(len(BINS)):
            groups = []
            for side in (slice(cut), slice(cut, None)):
                mask = bin_of(self.relevant[side]) == number
                if int(mask.sum()) >= SMALLEST_BIN:
                    groups.append((gains[side][mask], _class_means(gains[side][mask], self.classes[side][mask])))
            freedom = sum(len(means) - 1 for _, means in groups)
            squares = sum(float((means - means.mean()).square().sum()) for _, means in groups)
            for values, means in groups:
                error = (squares / freedom / len(means)) ** 0.5 if freedom else standard_error(values)
                total += expected_square(-float(values.mean()), error)
        return total

    def shares(self) -> Tensor:
        """``(Q,)`` how much each counts in a regression: bins alike, unless they are small, and thinned galleries less."""
        found, bins = self.weights.clone(), bin_of(self.relevant[: len(self.weights)])
        for number in bins.unique():
            mask = bins == number
            found[mask] *= min(int(mask.sum()), _ENOUGH) / found[mask].sum()
        count = len(self.relevant) - len(found)
        again = torch.full((count,), _THINNED / max(count, 1), dtype=found.dtype)
        found = torch.cat([found / found.sum(), again])
        return len(found) * found / found.sum()


@dataclass(frozen=True)
class Regression:
    """``weights . features + bias``; features are standardised, and their squares added.

    Args:
        center: Mean of each feature.
        spread: Standard deviation of each.
        weights: Of the features, then of their squares.
        bias: The mean gain.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(cls, features: Tensor, target: Tensor, counts: Tensor) -> Regression:
        """By ridge, where queries count ``(Q,)``."""
        center, spread = features.mean(0), features.std(0).clamp_min(1e-6)
        inputs = _inputs(features, center, spread)
        bias = (target * counts).sum() / counts.sum()
        weighted = inputs.T * counts
        gram = weighted @ inputs + _RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
        slopes = torch.linalg.solve(gram, weighted @ (target - bias))
        return cls(*(tuple(v.tolist()) for v in (center, spread, slopes)), float(bias))

    def __call__(self, features: Tensor) -> Tensor:
        """``(Q,)`` for ``(Q, F)``."""
        center, spread, weights = (torch.tensor(v).to(features) for v in (self.center, self.spread, self.weights))
        return _inputs(features, center, spread) @ weights + self.bias


@dataclass(frozen=True)
class Gate:
    """Opens where ``(1 - doubt) known + doubt unknown > threshold``.

    The first feature is the doubt, how likely the query's class is not known. The next ones tell of the class, the rest of
    the neighborhood.

    Args:
        known: Regression on what is told of the class.
        unknown: Regression on the neighborhood.
        threshold: Least predicted gain; infinite ones open never or always.
    """

    known: Regression
    unknown: Regression
    threshold: float

    @classmethod
    def fit(cls, known: Known, gains: Tensor) -> tuple[Gate, Tensor]:
        """A gate of regressions on queries whose gain is known, that opens for a gain above zero, and predictions.

        Args:
            known: The queries.
            gains: ``(Q,)``, as shares of 1.

        Returns:
            The gate, and ``(Q,)`` predicted gains, each from regressions that the query was left out of.
        """
        target, fold = gains.double().clamp(-_MOST, _MOST), known.numbers % _FOLDS
        counts, predicted = known.shares(), torch.empty_like(target)

        def fitted(rows: Tensor) -> Gate:
            parts = (_told(known.features[rows]), _shown(known.features[rows]))
            return cls(*(Regression.fit(part, target[rows], counts[rows]) for part in parts), 0.0)

        for number in range(_FOLDS):
            predicted[fold == number] = fitted(fold != number).predict(known.features[fold == number])
        return fitted(fold >= 0), predicted

    def predict(self, features: Tensor) -> Tensor:
        """``(Q,)`` gains for features ``(Q, F)``."""
        doubt = features[:, 0]
        return (1 - doubt) * self.known(_told(features)) + doubt * self.unknown(_shown(features))

    def opens(self, features: Tensor) -> Tensor:
        """``(Q,)`` bool for features ``(Q, F)``."""
        return self.predict(features) > self.threshold

    def to_config(self) -> Config:
        return asdict(self) | {"threshold": str(self.threshold)}  # JSON has no infinity

    @classmethod
    def from_config(cls, config: Config) -> Gate:
        def regression(given: Config) -> Regression:
            lists = (tuple(map(float, given[name])) for name in ("center", "spread", "weights"))
            return Regression(*lists, float(given["bias"]))

        return cls(regression(config["known"]), regression(config["unknown"]), float(config["threshold"]))


def bin_of(relevant: Tensor) -> Tensor:
    """Number of the bin of each query; -1 without a relevant item."""
    return torch.bucketize(relevant.double(), torch.tensor(BINS, dtype=torch.float64), right=True) - 1


def bin_names() -> list[str]:
    """``1-9``, ``10-49`` and so on."""
    return [f"{low}-{high - 1}" for low, high in pairwise(BINS)] + [f"{BINS[-1]}+"]


def expected_square(mean: float, error: float) -> float:
    """Of ``max(0, X)`` for a normal X: ``s^2 ((1 + z^2) P(z) + z p(z))``, ``z = mean / s``, P and p those of N(0, 1)."""
    if error == 0:
        return max(mean, 0.0) ** 2
    z = mean / error
    return error**2 * ((1 + z * z) * math.erfc(-z / 2**0.5) / 2 + z * math.exp(-z * z / 2) / (2 * math.pi) ** 0.5)


def _class_means(values: Tensor, classes: Tensor) -> Tensor:
    """``(C,)`` of ``(Q,)``."""
    _, places, counts = classes.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(counts), dtype=values.dtype).index_add(0, places, values) / counts


def _told(features: Tensor) -> Tensor:
    return features[:, 1 : TOLD + 1]


def _shown(features: Tensor) -> Tensor:
    return features[:, TOLD + 1 :]


def _inputs(features: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    standard = ((features - center) / spread).clamp(-4, 4)
    return torch.cat([standard, standard.square() - 1], dim=1)
