"""Measures of the first k places: precision, recall, hit rate, nDCG."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ipad_rerank.metrics.relevance import Judged, NoRelevant, measure
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, positive_int

AtK: TypeAlias = Callable[[Judged, int], Tensor]
"""Judged lists of B queries, and k, to ``(B,)`` values."""


def _per_query(of: AtK) -> Callable[..., Array]:
    """The public function of a measure, which keeps the measure of judged lists as its ``of``."""

    def at_k(
        ranking: Ranking,
        query_labels: ArrayLike,
        gallery_labels: ArrayLike,
        k: int,
        query_groups: ArrayLike | None = None,
        gallery_groups: ArrayLike | None = None,
        *,
        no_relevant: NoRelevant = "zero",
    ) -> Array:
        k = positive_int(k, "k")
        labels = (query_labels, gallery_labels, query_groups, gallery_groups)
        return measure(ranking, lambda judged: of(judged.head(k), k), *labels, no_relevant=no_relevant)

    at_k.of, at_k.__name__, at_k.__qualname__ = of, of.__name__, of.__name__
    at_k.__doc__ = (
        f"{of.__doc__}\n\n    Arguments are those of :func:`~ipad_rerank.average_precision`, and k, at least 1."
    )
    return at_k


@_per_query
def precision_at_k(judged: Judged, k: int) -> Tensor:
    """``(Q,)`` relevant entries among the first k places, over k (also where a list is shorter than k)."""
    return judged.within(k).sum(1, dtype=torch.float64) / k


@_per_query
def recall_at_k(judged: Judged, k: int) -> Tensor:
    """``(Q,)`` relevant entries among the first k places, over all relevant items of the gallery.

    Metric-learning papers often call something else recall@k: see :func:`hit_rate_at_k`.
    """
    return judged.within(k).sum(1, dtype=torch.float64) / judged.total.clamp_min(1)


@_per_query
def hit_rate_at_k(judged: Judged, k: int) -> Tensor:
    """``(Q,)`` 1 where any of the first k places is relevant, else 0 (CMC, the "recall@k" of metric learning)."""
    return judged.within(k).any(1).double()


@_per_query
def ndcg_at_k(judged: Judged, k: int) -> Tensor:
    """``(Q,)`` sum of ``1 / log2(1 + place)`` of the relevant entries in the first k places, over the most possible.

    The most possible is a list with the first ``min(R, k)`` places relevant, R counted over the whole gallery.
    """
    gains = (1 / torch.log2(1 + judged.position.clamp_min(1))).masked_fill(~judged.within(k), 0.0).sum(1)
    places = torch.arange(1, k + 1, dtype=torch.float64, device=gains.device)
    ideal = torch.cat([gains.new_zeros(1), (1 / torch.log2(1 + places)).cumsum(0)])
    return gains / ideal[judged.total.clamp(1, k).long()]
