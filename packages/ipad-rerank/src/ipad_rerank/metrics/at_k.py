"""Measures of the first k places: precision, recall, hit rate, nDCG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._arrays import positive_int
from ipad_rerank.metrics._relevance import Judge, Judged, NoRelevant, in_kind, without_relevant
from ipad_rerank.ranking import Ranking


def precision_at_k(
    ranking: Ranking,
    query_labels: Any,
    gallery_labels: Any,
    k: int,
    query_groups: Any = None,
    gallery_groups: Any = None,
    *,
    no_relevant: NoRelevant = "zero",
) -> Any:
    """``(Q,)`` relevant entries among the first k places, over k (also where a list is shorter than k)."""
    return _per_query(
        precision_of, ranking, (query_labels, gallery_labels, query_groups, gallery_groups), k, no_relevant
    )


def recall_at_k(
    ranking: Ranking,
    query_labels: Any,
    gallery_labels: Any,
    k: int,
    query_groups: Any = None,
    gallery_groups: Any = None,
    *,
    no_relevant: NoRelevant = "zero",
) -> Any:
    """``(Q,)`` relevant entries among the first k places, over all relevant items of the gallery.

    Metric-learning papers often call something else recall@k: see :func:`hit_rate_at_k`.
    """
    return _per_query(recall_of, ranking, (query_labels, gallery_labels, query_groups, gallery_groups), k, no_relevant)


def hit_rate_at_k(
    ranking: Ranking,
    query_labels: Any,
    gallery_labels: Any,
    k: int,
    query_groups: Any = None,
    gallery_groups: Any = None,
    *,
    no_relevant: NoRelevant = "zero",
) -> Any:
    """``(Q,)`` 1 where any of the first k places is relevant, else 0 (CMC, the "recall@k" of metric learning)."""
    return _per_query(hit_of, ranking, (query_labels, gallery_labels, query_groups, gallery_groups), k, no_relevant)


def ndcg_at_k(
    ranking: Ranking,
    query_labels: Any,
    gallery_labels: Any,
    k: int,
    query_groups: Any = None,
    gallery_groups: Any = None,
    *,
    no_relevant: NoRelevant = "zero",
) -> Any:
    """``(Q,)`` sum of ``1 / log2(1 + place)`` of the relevant entries in the first k places, over the most possible.

    The most possible is a list with the first ``min(R, k)`` places relevant, R counted over the whole gallery.
    """
    return _per_query(ndcg_of, ranking, (query_labels, gallery_labels, query_groups, gallery_groups), k, no_relevant)


def precision_of(judged: Judged, k: int) -> Tensor:
    return judged.within(k).sum(1, dtype=torch.float64) / k


def recall_of(judged: Judged, k: int) -> Tensor:
    return judged.within(k).sum(1, dtype=torch.float64) / judged.total.clamp_min(1)


def hit_of(judged: Judged, k: int) -> Tensor:
    return judged.within(k).any(1).double()


def ndcg_of(judged: Judged, k: int) -> Tensor:
    gains = (1 / torch.log2(1 + judged.position.clamp_min(1))).masked_fill(~judged.within(k), 0.0).sum(1)
    places = torch.arange(1, k + 1, dtype=torch.float64, device=gains.device)
    ideal = torch.cat([gains.new_zeros(1), (1 / torch.log2(1 + places)).cumsum(0)])
    return gains / ideal[judged.total.clamp(1, k).long()]


def _per_query(
    measure: Callable[[Judged, int], Tensor],
    ranking: Ranking,
    labels: tuple[Any, ...],
    k: int,
    no_relevant: NoRelevant,
) -> Any:
    k = positive_int(k, "k")
    judge = Judge(*labels, len(ranking))
    values = torch.empty(len(ranking), dtype=torch.float64, device=ranking.tensors()[0].device)
    for rows, judged in judge.chunks(ranking):
        values[rows] = without_relevant(measure(judged.head(k), k), judged.total, no_relevant)
    return in_kind(ranking, values)
