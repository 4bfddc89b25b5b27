"""Measures by name: what a fit, ``tune`` and ``compare`` can be asked to raise, and what they all report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ipad_rerank.metrics.at_k import hit_of, ndcg_of, precision_of, recall_of
from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Judge, Judged, NoRelevant, without_relevant
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike, positive_int

Measure: TypeAlias = Callable[[Judged], Tensor]
"""Judged lists of B queries to ``(B,)`` values between 0 and 1."""

REPORTED = ("map", "precision@1", "precision@10", "ndcg@10")
"""The whole list, and its head as a person sees it."""

HEAD = ("precision@1", "precision@10")
"""What a re-ranker may not lower when another measure is to be raised."""

TOLERANCE = 0.005
"""How much a measure may fall without being called a loss."""

BLENDS = (1.0, 0.75, 0.5, 0.25)
"""Weights of a re-ranker's scores beside the first similarity that are tried."""

_AT_K = {"precision": precision_of, "recall": recall_of, "hit_rate": hit_of, "ndcg": ndcg_of}


def measure_named(name: str) -> Measure:
    """``"map"``, or ``"precision@10"`` and the like: precision, recall, hit_rate or ndcg at any k.

    Raises:
        ValueError: another name.
    """
    if name == "map":
        return lambda judged: average_precision_of(judged, max(judged.relevant.shape[1], 1))
    found = re.fullmatch(r"([a-z_]+)@(\d+)", name) if isinstance(name, str) else None
    if found is None or found[1] not in _AT_K:
        raise ValueError(
            f'objective must be "map" or one of {", ".join(_AT_K)} with a k, as in "ndcg@10"; got {name!r}'
        )
    k = positive_int(int(found[2]), "k of the objective")
    return lambda judged: _AT_K[found[1]](judged.head(k), k)


def label_of(name: str) -> str:
    """As tables show it: MAP, P@1, nDCG@10."""
    kind, _, k = name.partition("@")
    return {"map": "MAP", "precision": "P", "recall": "R", "hit_rate": "hit", "ndcg": "nDCG"}[kind] + (
        f"@{k}" if k else ""
    )


def per_query(
    names: Sequence[str],
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    no_relevant: NoRelevant = "zero",
) -> dict[str, Tensor]:
    """``(Q,)`` float64 values of each measure by name, in one pass; arguments are those of ``average_precision``."""
    measures = {name: measure_named(name) for name in names}
    judge = Judge(query_labels, gallery_labels, query_groups, gallery_groups, len(ranking))
    device = ranking.tensors()[0].device
    values = {name: torch.empty(len(ranking), dtype=torch.float64, device=device) for name in measures}
    for rows, judged in judge.chunks(ranking):
        for name, measure in measures.items():
            values[name][rows] = without_relevant(measure(judged), judged.total, no_relevant)
    return values


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The values of several searches one behind the other, on the CPU."""
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def chosen_blend(gains: Mapping[float, Mapping[str, float]], objective: str) -> float:
    """The blend that raises the objective most among those that do not lower the head; the largest of equals."""
    safe = [blend for blend, gain in gains.items() if min(gain[name] for name in HEAD) >= -TOLERANCE]
    return max(safe or gains, key=lambda blend: (gains[blend][objective], blend))
