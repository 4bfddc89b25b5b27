"""Blend any re-ranker's scores with the similarity to the query as asked."""

from __future__ import annotations

from torch import Tensor

from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.shortlist import cosines
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import stable_order
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE

_ZERO_VECTOR = -100.0  # below every standardised score


def blended(asked: Retrieval, found: Ranking, weight: float) -> Ranking:
    """``found`` ordered by ``weight`` times its scores plus the rest times the cosines to the queries asked.

    Both are brought to mean 0 and deviation 1 within each list first, since scores of re-rankers have scales of their own.
    A weight of 1 gives ``found`` back.
    """
    if weight == 1:
        return found
    cosine = cosines(asked.after(found), found.k)
    indices, scores = found.tensors()
    mixed = weight * _standard(scores.to(cosine.dtype)) + (1 - weight) * _standard(cosine)
    mixed = mixed.masked_fill(cosine == ZERO_VECTOR_SCORE, _ZERO_VECTOR)
    order = stable_order(mixed)
    return found.like(indices.gather(1, order), mixed.gather(1, order))


def _standard(values: Tensor) -> Tensor:
    values = values.clamp_min(-1)  # zero vectors score -2
    return (values - values.mean(1, keepdim=True)) / values.std(1, unbiased=False, keepdim=True).clamp_min(1e-6)
