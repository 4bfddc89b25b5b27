"""The ceiling of re-ranking: what a perfect order of the first n_r entries would score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ipad_rerank.metrics.average_precision import Denominator, denominator_of
from ipad_rerank.metrics.relevance import Judged, NoRelevant, cutoff, measure
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
    n_r, last = positive_int(n_r, "n_r"), cutoff(at, ranking)

    def perfect(judged: Judged) -> Tensor:
        in_head = judged.relevant[:, :n_r].sum(1, dtype=torch.float64).clamp_max(last)  # these get precision 1 each
        found = judged.relevant.cumsum(1, dtype=torch.float64)
        in_tail = judged.within(last)[:, n_r:]
        summed = (found / judged.position.clamp_min(1))[:, n_r:].masked_fill(~in_tail, 0.0).sum(1) + in_head
        return summed / denominator_of(judged.total, in_head + in_tail.sum(1), last, denominator)

    labels = (query_labels, gallery_labels, query_groups, gallery_groups)
    return measure(ranking, perfect, *labels, no_relevant=no_relevant)


def oracle_mean_average_precision(*arguments: Any, **options: Any) -> float:
    """Mean of :func:`oracle_average_precision` over all queries; the same arguments."""
    return average(oracle_average_precision(*arguments, **options))
