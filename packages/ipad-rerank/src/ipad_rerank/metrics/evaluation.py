"""All measures of a ranking in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ipad_rerank.metrics.objectives import measures_named
from ipad_rerank.metrics.relevance import Judge, NoRelevant
from ipad_rerank.metrics.summary import average, per_group
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, in_kind, positive_int


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
        at = [f"P@{k} {100 * value:.2f}" for k, value in self.precision.items()]
        at += [f"nDCG@10 {100 * self.ndcg[10]:.2f}"] if 10 in self.ndcg else []
        return f"MAP {100 * self.map:.2f}  {', '.join(at)}"

    def to_dict(self) -> dict[str, object]:
        """All but the per-query values, ready for JSON."""
        return {name: value for name, value in vars(self).items() if name != "average_precision"}


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
    kinds = ("precision", "recall", "hit_rate", "ndcg")
    names = ["map", *(f"{kind}@{k}" for kind in kinds for k in cuts)]
    judge = Judge(len(ranking), None, query_labels, gallery_labels, query_groups, gallery_groups)
    values = judge.measured(measures_named(names), ranking, no_relevant)
    precise = values["map"]
    groups = [0] * len(ranking) if query_groups is None else query_groups
    return Evaluation(
        map=average(precise),
        macro_map=average(precise, groups, weighting="group"),
        label_map=average(precise, groups, query_labels, weighting="label"),
        per_group=per_group(precise, groups),
        **{kind: {k: average(values[f"{kind}@{k}"]) for k in cuts} for kind in kinds},
        average_precision=in_kind(precise, ranking.indices),
        queries=int((~torch.isnan(precise)).sum()),
    )
