"""All measures of a ranking in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ipad_rerank.metrics.at_k import hit_of, ndcg_of, precision_of, recall_of
from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Judge, NoRelevant, in_kind, without_relevant
from ipad_rerank.metrics.summary import average, per_group
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, positive_int


@dataclass(frozen=True)
class Evaluation:
    """Means over queries, between 0 and 1.

    Args:
        map: Mean AP over all queries (a group with more queries weighs more).
        macro_map: Mean of the groups' mean AP; equals ``map`` without groups.
        label_map: Mean over labels (of each group) of the mean AP.
        per_group: Mean AP of each group.
        precision, recall, hit_rate, ndcg: By k, over all queries.
        average_precision: ``(Q,)``, of the ranking's kind.
        queries: How many were counted.
    """

    map: float
    macro_map: float
    label_map: float
    per_group: dict[int, float]
    precision: dict[int, float]
    recall: dict[int, float]
    hit_rate: dict[int, float]
    ndcg: dict[int, float]
    average_precision: Array
    queries: int

    def __str__(self) -> str:
        at = ", ".join(f"P@{k} {100 * value:.2f}" for k, value in self.precision.items())
        return f"MAP {100 * self.map:.2f}  {at}"

    def to_dict(self) -> dict[str, Any]:
        """All but the per-query values, ready for JSON."""
        names = ("map", "macro_map", "label_map", "per_group", "precision", "recall", "hit_rate", "ndcg", "queries")
        return {name: getattr(self, name) for name in names}


def evaluate(
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10, 100),
    no_relevant: NoRelevant = "zero",
) -> Evaluation:
    """Mean AP (overall, macro, per group) and precision, recall, hit rate, nDCG at each k, in one pass.

    Definitions are those of the functions of the same name; AP uses the whole lists and ``min(R, k)``.
    """
    cuts = [positive_int(k, "ks") for k in ks]
    judge = Judge(query_labels, gallery_labels, query_groups, gallery_groups, len(ranking))
    measures = {"precision": precision_of, "recall": recall_of, "hit_rate": hit_of, "ndcg": ndcg_of}
    device = ranking.tensors()[0].device
    precise = torch.empty(len(ranking), dtype=torch.float64, device=device)
    values = {(name, k): torch.empty_like(precise) for name in measures for k in cuts}
    for rows, judged in judge.chunks(ranking):
        precise[rows] = without_relevant(average_precision_of(judged, ranking.k), judged.total, no_relevant)
        head = judged.head(max(cuts, default=1))
        for (name, k), column in values.items():
            column[rows] = without_relevant(measures[name](head, k), head.total, no_relevant)
    groups = [0] * len(ranking) if query_groups is None else query_groups
    return Evaluation(
        map=average(precise),
        macro_map=average(precise, groups, weighting="group"),
        label_map=average(precise, groups, query_labels, weighting="label"),
        per_group=per_group(precise, groups),
        **{name: {k: average(values[name, k]) for k in cuts} for name in measures},
        average_precision=in_kind(ranking, precise),
        queries=int((~torch.isnan(precise)).sum()),
    )
