"""Where a guard's gate opens and how many results stay in front: chosen together, on labelled queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import HEAD, TOLERANCE, joined
from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.guard.census import Census
from ipad_rerank.rerankers.guard.gate import Gate, Known, worst_of
from ipad_rerank.rerankers.guard.neighborhood import neighborhood
from ipad_rerank.rerankers.guard.thinning import thinned
from ipad_rerank.rerankers.labelled import LabelledSearch
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.shortlist import keep_in_front
from ipad_rerank.search.ranking import Ranking

FIRST = (0, 3, 5, 10, 20, 30, 50)
"""How many of the first results stay: what a calibration tries."""

NEARLY_ALL = 0.95
"""Share of the largest gain that is enough: among these, the group of queries that fares worst decides."""


class Trial(NamedTuple):
    """A choice: the mean gain, that of the worst group, and how to get it."""

    gain: float
    worst: float
    first: int
    gate: Gate


class _Seen(NamedTuple):
    """What the gate reads of some queries, and what they gain by each measure, for each number of results that stay."""

    features: Tensor
    gains: dict[int, dict[str, Tensor]]


def features_of(asked: Retrieval, answer: Ranking, census: Census | None) -> Tensor:
    """``(Q, F)`` what the gate reads."""
    shown = neighborhood(asked, answer)
    return shown if census is None else torch.cat([shown, census.features(asked)], dim=1)


def calibrated(
    reranker: Reranker, parts: Sequence[LabelledSearch], weights: Tensor, objective: str, seed: int
) -> Trial:
    """The best choice for these queries, ``weights (Q,)``, and for some of them once more in thinned galleries."""
    names = (objective, *HEAD)
    searches, seen = list(parts), [_seen(reranker, parts, Census.of(parts), names)]
    numbers, cases, taken = [torch.arange(len(weights))], [torch.arange(0)], 0
    for turn in thinned(parts, seed):
        searches += turn.searches
        seen.append(_seen(reranker, turn.searches, Census.of(turn.galleries), names))
        for search in turn.searches:
            numbers.append(torch.from_numpy(search.query_rows))
            cases.append(search.query_classes + taken)
            taken = int(cases[-1].max()) + 1
    features, relevant = torch.cat([part.features for part in seen]), torch.cat([part.relevant for part in searches])
    known = Known(features, relevant, weights, torch.cat(numbers), torch.cat(cases))
    trials: list[Trial] = []
    for first in FIRST:
        gains = joined([part.gains[first] for part in seen])
        gate, opens = Gate.fit(known, gains[objective])
        left = {name: torch.where(opens, gain, 0.0) for name, gain in gains.items()}
        if min(known.gain(left[name]) for name in HEAD) >= -TOLERANCE:
            trials.append(Trial(known.gain(left[objective]), worst_of(known.judged(left[objective])), first, gate))
    trials.append(Trial(0.0, 0.0, 0, replace(gate, threshold=float("inf"))))  # one that never opens
    enough = NEARLY_ALL * max(trial.gain for trial in trials)
    return max((trial for trial in trials if trial.gain >= enough), key=lambda trial: trial.worst)


def _seen(reranker: Reranker, parts: Sequence[LabelledSearch], census: Census, names: tuple[str, ...]) -> _Seen:
    answers = [answer_of(reranker, part.asked) for part in parts]
    features = torch.cat([features_of(part.asked, found, census) for part, found in zip(parts, answers, strict=True)])
    before, gains = joined([part.measure(names) for part in parts]), {}
    for first in FIRST:
        found = [keep_in_front(part.asked, answer, first) for part, answer in zip(parts, answers, strict=True)]
        after = joined([part.measure(names, ranking) for part, ranking in zip(parts, found, strict=True)])
        gains[first] = {name: after[name] - before[name] for name in names}
    return _Seen(features, gains)
