"""Average precision, over full rankings and over the top k, and the most of it that re-ranking can reach."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ipad_rerank.metrics.relevance import Judged, NoRelevant, cutoff, measure
from ipad_rerank.metrics.summary import Averaging, average
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, one_of, positive_int

Denominator = Literal["reachable", "relevant", "found"]


def average_precision(
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    at: int | None = None,
    no_relevant: NoRelevant = "zero",
    denominator: Denominator = "reachable",
) -> Array:
    """AP of each query: the sum of the precisions at its relevant entries, over a denominator.

    ``AP = 1/N * sum over relevant entries at place p <= K of (relevant entries among the first p) / p``

    K is ``at``, or the length of the lists. R is the number of relevant items in the whole gallery. With lists that
    hold the whole gallery and no ``at``, this is the AP of the field (scikit-learn's, up to how ties are broken: here
    by the order given), and all denominators agree. Below that N is a convention, so it has a name:

    * "reachable": ``min(R, K)``. A perfect list scores 1. The AP@K of most challenges.
    * "relevant": R. Everything that was not fetched counts as never found: a lower bound of the full AP.
    * "found": relevant entries within K. What torchmetrics and pytorch-metric-learning compute; blind to misses.

    Args:
        ranking: Of ``rank`` or a re-ranker.
        query_labels: ``(Q,)`` whole numbers; never changed.
        gallery_labels: ``(G,)``.
        query_groups: ``(Q,)``; a query then only meets gallery entries of its group, all others leave its list.
        gallery_groups: ``(G,)``, together with ``query_groups``.
        at: Only the first ``at`` places (of the own group) count. Places that the list does not reach hold nothing.
        no_relevant: A query with R = 0 scores 0 ("zero"), or NaN, which averages leave out ("skip").
        denominator: See above.

    Returns:
        ``(Q,)`` float64 of the ranking's kind.

    Raises:
        ValueError: lengths that differ, an index beyond the gallery, an unknown option.

    Example:
        >>> ranking = Ranking([[2, 0, 1]], [[0.9, 0.5, 0.1]])
        >>> average_precision(ranking, [1], [1, 1, 0]).round(4).tolist()  # (1/2 + 2/3) / 2
        [0.5833]
    """
    one_of(get_args(Denominator), denominator, "denominator")
    of = partial(average_precision_of, at=cutoff(at, ranking), denominator=denominator)
    return measure(ranking, of, query_labels, gallery_labels, query_groups, gallery_groups, no_relevant=no_relevant)


def mean_average_precision(
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    weighting: Averaging = "query",
    **options: Any,
) -> float:
    """Mean of :func:`average_precision` between 0 and 1, over all queries unless ``weighting`` says otherwise.

    Args:
        ranking: See :func:`average_precision`, as for the other arguments not named here.
        query_labels: ``(Q,)``.
        gallery_labels: ``(G,)``.
        query_groups: ``(Q,)``.
        gallery_groups: ``(G,)``.
        weighting: "query": every query weighs the same, so that a group with more queries weighs more (the overall
            MAP of the attribute-retrieval papers). "group": mean of the groups' means. "label": mean over the labels
            (of each group).
        **options: ``at``, ``no_relevant`` and ``denominator``.

    Raises:
        ValueError: as :func:`average_precision`; "skip" when no query has anything relevant.
    """
    values = average_precision(ranking, query_labels, gallery_labels, query_groups, gallery_groups, **options)
    return average(values, query_groups, query_labels, weighting=weighting)


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
        head = Judged.of_one_group(judged.relevant[:, :n_r].sort(dim=1, descending=True).values, judged.total)
        relevant = torch.cat([head.relevant, judged.relevant[:, n_r:]], dim=1)
        position = torch.cat([head.position, judged.position[:, n_r:]], dim=1)
        return average_precision_of(Judged(relevant, position, judged.total), last, denominator)

    labels = (query_labels, gallery_labels, query_groups, gallery_groups)
    return measure(ranking, perfect, *labels, no_relevant=no_relevant)


def oracle_mean_average_precision(*arguments: Any, **options: Any) -> float:
    """Mean of :func:`oracle_average_precision` over all queries; the same arguments."""
    return average(oracle_average_precision(*arguments, **options))


def average_precision_of(judged: Judged, at: int | None = None, denominator: Denominator = "reachable") -> Tensor:
    """``(B,)`` AP of judged lists, or of their first ``at`` places; queries without relevant items come out as 0.

    Only relevant entries are looked at, so that long lists cost no sums over all of their places.
    """
    relevant = judged.relevant if at is None else judged.within(at)
    owner, place = relevant.nonzero(as_tuple=True)
    found = torch.bincount(owner, minlength=len(relevant))
    earlier = torch.arange(len(owner), device=owner.device) - (found.cumsum(0) - found)[owner]
    precision = (earlier + 1) / judged.position[owner, place]
    longest = relevant.shape[1] if at is None else at
    counts = {"reachable": judged.total.clamp_max(longest), "relevant": judged.total, "found": found}
    return torch.zeros_like(judged.total).index_add_(0, owner, precision) / counts[denominator].clamp_min(1)
