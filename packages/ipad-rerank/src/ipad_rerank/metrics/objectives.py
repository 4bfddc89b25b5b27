"""Measures by name: what a fit, ``tune`` and ``compare`` can be asked to raise, and what they all report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ipad_rerank.metrics.at_k import hit_rate_at_k, ndcg_at_k, precision_at_k, recall_at_k
from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Measure
from ipad_rerank.search.vectors import positive_int

REPORTED = ("map", "precision@1", "precision@10", "ndcg@10")
"""The whole list, and its head as a person sees it."""

HEAD = ("precision@1", "precision@10")
"""What a re-ranker may not lower when another measure is to be raised."""

TOLERANCE = 0.005
"""How much a measure may fall without being called a loss."""

ENOUGH = 0.9
"""Share of the largest gain for which the rest is given up, for the sake of the head."""

WORST = 0.02
"""A fall of a measure of the head, on average over queries, that nothing makes up for."""

BLENDS = (1.0, 0.75, 0.5, 0.25)
"""Weights of a re-ranker's scores beside the first similarity that are tried."""

_AT_K = {"precision": precision_at_k, "recall": recall_at_k, "hit_rate": hit_rate_at_k, "ndcg": ndcg_at_k}


def measure_named(name: str) -> Measure:
    """``"map"``, or ``"precision@10"`` and the like: precision, recall, hit_rate or ndcg at any k.

    Raises:
        ValueError: another name.
    """
    if name == "map":
        return average_precision_of
    found = re.fullmatch(r"([a-z_]+)@(\d+)", name) if isinstance(name, str) else None
    if found is None or found[1] not in _AT_K:
        raise ValueError(
            f'objective must be "map" or one of {", ".join(_AT_K)} with a k, as in "ndcg@10"; got {name!r}'
        )
    k = positive_int(int(found[2]), "k of the objective")
    return lambda judged: _AT_K[found[1]].of(judged.head(k), k)


def label_of(name: str) -> str:
    """As tables show it: MAP, P@1, nDCG@10."""
    kind, _, k = name.partition("@")
    short = {"map": "MAP", "precision": "P", "recall": "R", "hit_rate": "hit", "ndcg": "nDCG"}[kind]
    return f"{short}@{k}" if k else short


def measures_named(names: Iterable[str]) -> dict[str, Measure]:
    """Each once, by name."""
    return {name: measure_named(name) for name in names}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The values of several searches one behind the other, on the CPU."""
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def is_harmless(changes: Tensor) -> bool:
    """Do queries whose measure changed by ``(Q,)`` surely lose no more than TOLERANCE?

    Their mean change keeps above it by a standard error; where queries are few and that is more than TOLERANCE itself, it
    is enough that these few do not lose. NaN (queries without a relevant item) are left out.
    """
    kept = changes[~torch.isnan(changes)]
    spare = min(standard_error(kept), TOLERANCE)
    return not len(kept) or float(kept.mean()) >= spare - TOLERANCE


def standard_error(values: Tensor) -> float:
    """Of the mean of ``(Q,)``; infinite for less than two."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("inf")


def chosen_blend(gains: Mapping[float, Mapping[str, float]], objective: str) -> float:
    """The smallest blend that brings ENOUGH of the largest gain in the objective, among those that do not lower the head.

    Where all of them lower it, the one that does so least; 0 where that is more than WORST.
    """
    head = {blend: min(gain[name] for name in HEAD) for blend, gain in gains.items()}
    safe = [blend for blend in gains if head[blend] >= -TOLERANCE]
    if safe:
        most = max(gains[blend][objective] for blend in safe)
        return min(blend for blend in safe if gains[blend][objective] >= most - (1 - ENOUGH) * abs(most))
    least = max(head, key=head.__getitem__)
    return least if head[least] >= -WORST else 0.0
