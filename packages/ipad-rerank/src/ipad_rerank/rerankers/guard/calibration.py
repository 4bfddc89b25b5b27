"""Where a guard's gate opens and how many results stay in front: chosen together, on labelled queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import HEAD, TOLERANCE, joined
from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.guard.census import Census, Spread
from ipad_rerank.rerankers.guard.gate import Gate, Known
from ipad_rerank.rerankers.guard.neighborhood import neighborhood
from ipad_rerank.rerankers.guard.thinning import thinned
from ipad_rerank.rerankers.labelled import LabelledSearch
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.shortlist import keep_in_front
from ipad_rerank.search.ranking import Ranking

FIRST = (0, 3, 5, 10, 20, 30, 50)
"""How many of the first results stay: what a calibration tries."""

PRICE = 1250.0
"""Of a risk, in largest gains: that a group falls by one point (0.01) costs an eighth of it, by two points a half."""

STEPS = 40
"""Thresholds that are tried, about: from one that lets no query pass to one that lets all pass."""


class Trial(NamedTuple):
    """A choice: the mean gain, the risk of groups of queries, and how to get it."""

    gain: float
    risk: float
    first: int
    gate: Gate


class _Seen(NamedTuple):
    """What the gate reads of some queries, and what they gain by each measure, for each number of results that stay."""

    features: Tensor
    gains: dict[int, dict[str, Tensor]]


def features_of(asked: Retrieval, answer: Ranking, census: Census) -> Tensor:
    """``(Q, F)`` what the gate reads: the census's, then those of the neighborhood."""
    return torch.cat([census.features(asked), neighborhood(asked, answer)], dim=1)


def calibrated(
    reranker: Reranker, parts: Sequence[LabelledSearch], weights: Tensor, objective: str, seed: int
) -> Trial:
    """The best choice for these queries, ``weights (Q,)``, and for some of them once more in thinned galleries."""
    names = (objective, *HEAD)
    spread = Spread.of(parts)
    searches, seen = list(parts), [_seen(reranker, parts, Census.of(parts, spread), names)]
    numbers = [torch.arange(len(weights))]
    for turn in thinned(parts, seed):
        searches += turn.searches
        seen.append(_seen(reranker, turn.searches, Census.of(turn.galleries, spread), names))
        numbers += [torch.from_numpy(search.query_rows) for search in turn.searches]
    features, relevant = torch.cat([part.features for part in seen]), torch.cat([part.relevant for part in searches])
    known = Known(features, relevant, weights, torch.cat(numbers), _classes(searches))
    trials: list[Trial] = []
    for first in FIRST:
        gains = joined([part.gains[first] for part in seen])
        gate, predicted = Gate.fit(known, gains[objective])
        steps = predicted[: len(weights)].quantile(torch.linspace(0, 1, STEPS + 1, dtype=torch.float64))
        for threshold in [float("inf"), *steps.flip(0).tolist(), float("-inf")]:
            left = {name: torch.where(predicted > threshold, gain, 0.0) for name, gain in gains.items()}
            if min(known.gain(left[name]) for name in HEAD) >= -TOLERANCE:
                gain, risk = known.gain(left[objective]), known.risk(left[objective])
                trials.append(Trial(gain, risk, first, replace(gate, threshold=threshold)))
    most = max(trial.gain for trial in trials)
    return max(trials, key=lambda trial: trial.gain - PRICE * most * trial.risk)


def _classes(searches: Sequence[LabelledSearch]) -> Tensor:
    """``(Q,)`` of the queries; those of each search have numbers of their own."""
    found, taken = [], 0
    for search in searches:
        found.append(search.query_classes + taken)
        taken = max(taken, int(found[-1].max()) + 1)
    return torch.cat(found)


def _seen(reranker: Reranker, parts: Sequence[LabelledSearch], census: Census, names: tuple[str, ...]) -> _Seen:
    answers = [answer_of(reranker, part.asked) for part in parts]
    features = torch.cat([features_of(part.asked, found, census) for part, found in zip(parts, answers, strict=True)])
    before, gains = joined([part.measure(names) for part in parts]), {}
    for first in FIRST:
        found = [keep_in_front(part.asked, answer, first) for part, answer in zip(parts, answers, strict=True)]
        after = joined([part.measure(names, ranking) for part, ranking in zip(parts, found, strict=True)])
        gains[first] = {name: after[name] - before[name] for name in names}
    return _Seen(features, gains)
