"""For which queries to act: a regression from what the neighborhood shows to the gain, and a threshold on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import is_harmless, standard_error
from ipad_rerank.rerankers.saving import Config

BINS = (1, 10, 50, 200)
"""Queries are looked at by their number of relevant items, in bins that start here."""

SMALLEST_BIN = 5
_FOLDS = 5
_RIDGE = 10.0
_MOST = 0.3  # gains count up to this: a few extreme queries would decide everything
_LOSS = 0.004  # that a bin may have on average: other galleries, which may take half a point, differ from this one
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
        cases: ``(Q - N,)`` a number for each thinned class of each round.
    """

    features: Tensor
    relevant: Tensor
    weights: Tensor
    numbers: Tensor
    cases: Tensor

    def gain(self, gains: Tensor) -> float:
        """Mean of ``(Q,)``, over galleries as they are."""
        return float((gains[: len(self.weights)] * self.weights).sum() / self.weights.sum())

    def judged(self, gains: Tensor) -> list[Tensor]:
        """``(Q,)`` by bin: the gains of its queries in galleries as they are, and the mean gains of its thinned classes.

        Bins with few queries are left out.
        """
        cut = len(self.weights)
        found = [gains[:cut][mask] for mask in _members(self.relevant[:cut])]
        for mask in _members(self.relevant[cut:]):
            _, places, counts = self.cases[mask].unique(return_inverse=True, return_counts=True)
            found.append(torch.zeros(len(counts), dtype=gains.dtype).index_add(0, places, gains[cut:][mask]) / counts)
        return found

    def shares(self) -> Tensor:
        """``(Q,)`` how much each counts in a regression: bins alike, unless they are small, and thinned galleries less."""
        found, bins = self.weights.clone(), bin_of(self.relevant[: len(self.weights)])
        for number in bins.unique():
            mask = bins == number
            found[mask] *= min(int(mask.sum()), _ENOUGH) / found[mask].sum()
        again = torch.full((len(self.cases),), _THINNED / max(len(self.cases), 1), dtype=found.dtype)
        found = torch.cat([found / found.sum(), again])
        return len(found) * found / found.sum()


@dataclass(frozen=True)
class Gate:
    """Opens where ``weights . features + bias > threshold``; features are standardised, and their squares added.

    Args:
        center: Mean of each feature.
        spread: Standard deviation of each.
        weights: Of the features, then of their squares.
        bias: The mean gain.
        threshold: Least predicted gain; infinite ones open never or always.
    """

    center: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float

    @classmethod
    def fit(cls, known: Known, gains: Tensor) -> tuple[Gate, Tensor]:
        """A gate calibrated on queries whose gain is known, and ``(Q,)`` bool, for which of these it opens.

        The threshold is the one of the largest gain over all queries at which no bin of queries (by relevant items)
        loses more than a trace; predictions are made for queries that were left out of the regression.

        Args:
            known: The queries.
            gains: ``(Q,)``, as shares of 1.
        """
        features, gains = known.features.double(), gains.double()
        center, spread = features.mean(0), features.std(0).clamp_min(1e-6)
        inputs, target, counts = _inputs(features, center, spread), gains.clamp(-_MOST, _MOST), known.shares()
        fold = known.numbers % _FOLDS
        predicted = torch.empty_like(target)
        for number in range(_FOLDS):
            slopes, bias = _ridge(inputs[fold != number], target[fold != number], counts[fold != number])
            predicted[fold == number] = inputs[fold == number] @ slopes + bias
        slopes, bias = _ridge(inputs, target, counts)
        threshold = _threshold(predicted, gains, known)
        gate = cls(*(tuple(v.tolist()) for v in (center, spread, slopes)), float(bias), threshold)
        return gate, predicted > threshold

    def opens(self, features: Tensor) -> Tensor:
        """``(Q,)`` bool for features ``(Q, F)``."""
        center, spread, weights = (
            torch.tensor(v, dtype=torch.float64) for v in (self.center, self.spread, self.weights)
        )
        return _inputs(features, center, spread) @ weights + self.bias > self.threshold

    def to_config(self) -> Config:
        return asdict(self) | {"threshold": str(self.threshold)}  # JSON has no infinity

    @classmethod
    def from_config(cls, config: Config) -> Gate:
        lists = (tuple(map(float, config[name])) for name in ("center", "spread", "weights"))
        return cls(*lists, float(config["bias"]), float(config["threshold"]))


def bin_of(relevant: Tensor) -> Tensor:
    """Number of the bin of each query; -1 without a relevant item."""
    return torch.bucketize(relevant.double(), torch.tensor(BINS, dtype=torch.float64), right=True) - 1


def bin_names() -> list[str]:
    """``1-9``, ``10-49`` and so on."""
    return [f"{low}-{high - 1}" for low, high in pairwise(BINS)] + [f"{BINS[-1]}+"]


def worst_of(judged: list[Tensor]) -> float:
    """The least of the bins' mean gains, each less its standard error."""
    return min((float(part.mean()) - standard_error(part) for part in judged), default=0.0)


def _members(relevant: Tensor) -> list[Tensor]:
    """``(Q,)`` bool for each bin with enough queries to judge by."""
    bins = bin_of(relevant)
    members = [bins == number for number in range(len(BINS))]
    return [mask for mask in members if int(mask.sum()) >= SMALLEST_BIN]


def _threshold(predicted: Tensor, gains: Tensor, known: Known) -> float:
    best, best_gain = float("inf"), 0.0
    steps = predicted[: len(known.weights)].quantile(torch.linspace(0, 1, 41, dtype=torch.float64))
    for threshold in [float("-inf"), *steps.tolist()]:
        left = torch.where(predicted > threshold, gains, 0.0)
        if known.gain(left) > best_gain and all(is_harmless(part, _LOSS) for part in known.judged(left)):
            best, best_gain = threshold, known.gain(left)
    return best


def _inputs(features: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    standard = ((features.double() - center) / spread).clamp(-4, 4)
    return torch.cat([standard, standard.square() - 1], dim=1)


def _ridge(inputs: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    bias = (target * counts).sum() / counts.sum()
    weighted = inputs.T * counts
    gram = weighted @ inputs + _RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return torch.linalg.solve(gram, weighted @ (target - bias)), bias
