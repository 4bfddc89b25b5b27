"""Blend any re-ranker's scores with the similarity to the query as asked."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.shortlist import Shortlist, batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import stable_order
from ipad_rerank.search.vectors import ArrayLike, candidates_of, compute_dtype, pair_of, work_device

_ZERO_VECTOR = -100.0  # below every standardised score


def blended(
    query: ArrayLike, gallery: ArrayLike, ranking: Ranking, weight: float, own_galleries: bool = False
) -> Ranking:
    """The same candidates by ``weight`` times the ranking's scores plus the rest times their cosines.

    Both are brought to mean 0 and deviation 1 within each list first, since scores of re-rankers have scales of their own.

    Args:
        query: ``(Q, D)``, as asked.
        gallery: ``(G, D)``, or ``(Q, k, D)`` with ``own_galleries``.
        ranking: Re-ranked.
        weight: Within [0, 1]; 1 gives the ranking back.
        own_galleries: Whether each query has a gallery of its own.
    """
    if weight == 1:
        return ranking
    queries, items = (candidates_of if own_galleries else pair_of)(query, gallery)
    dtype, device = compute_dtype(queries, items), work_device(queries, items)
    lists = Shortlist(queries, items, ranking, ranking.k, dtype, device)
    indices, scores = ranking.tensors()
    mixed, order = torch.empty_like(scores, dtype=dtype), torch.empty_like(indices)
    for rows in batches(len(queries), 4 * ranking.k * items.dim, dtype, device):
        asked, unit = lists.batch(rows)
        cosine = (unit * asked[:, None]).sum(-1)
        score = weight * _standard(scores[rows].to(device, dtype)) + (1 - weight) * _standard(cosine)
        score = score.masked_fill((unit == 0).all(-1), _ZERO_VECTOR).to(scores.device)
        order[rows] = stable_order(score)
        mixed[rows] = score.gather(1, order[rows])
    return ranking.like(indices.gather(1, order), mixed)


def _standard(values: Tensor) -> Tensor:
    values = values.clamp_min(-1)  # zero vectors score -2
    return (values - values.mean(1, keepdim=True)) / values.std(1, unbiased=False, keepdim=True).clamp_min(1e-6)
