"""The ceiling of re-ranking: what a perfect order of the first n_r entries would score."""

from __future__ import annotations

from typing import Any

import torch

from ipad_rerank.metrics.average_precision import Denominator, denominator_of
from ipad_rerank.metrics.relevance import Judge, NoRelevant, cutoff, in_kind, without_relevant
from ipad_rerank.metrics.summary import average
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, positive_int


def oracle_average_precision(
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    n_r: int,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    at: int | None = None,
    no_relevant: NoRelevant = "zero",
    denominator: Denominator = "reachable",
) -> Array:
    """``(Q,)`` AP after the first ``n_r`` entries of each list were put in the best order, the tail left as it is.

    No re-ranker that keeps the candidates and the tail can score more. The other arguments are those of
    :func:`~ipad_rerank.metrics.average_precision`.
    """
    n_r = positive_int(n_r, "n_r")
    judge = Judge(query_labels, gallery_labels, query_groups, gallery_groups, len(ranking))
    last = cutoff(at, ranking)
    values = torch.empty(len(ranking), dtype=torch.float64, device=ranking.tensors()[0].device)
    for rows, judged in judge.chunks(ranking):
        in_head = judged.relevant[:, :n_r].sum(1, dtype=torch.float64).clamp_max(last)  # these get precision 1 each
        found = judged.relevant.cumsum(1, dtype=torch.float64)
        in_tail = judged.within(last)[:, n_r:]
        summed = (found / judged.position.clamp_min(1))[:, n_r:].masked_fill(~in_tail, 0.0).sum(1) + in_head
        count = in_head + in_tail.sum(1)
        value = summed / denominator_of(judged.total, count, last, denominator)
        values[rows] = without_relevant(value, judged.total, no_relevant)
    return in_kind(ranking, values)


def oracle_mean_average_precision(
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    n_r: int,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    **options: Any,
) -> float:
    """Mean of :func:`oracle_average_precision` over all queries."""
    return average(
        oracle_average_precision(ranking, query_labels, gallery_labels, n_r, query_groups, gallery_groups, **options)
    )
