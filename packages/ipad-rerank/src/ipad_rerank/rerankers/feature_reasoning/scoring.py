"""From refined cosines to the scores of a head: blended with the first ones, equal for equals, copies in front."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.shortlist import near_duplicates

_TIE_STEPS = 2.0**20  # scores closer than rounding errors are ties, which keep the order they came in


@torch.no_grad()
def head_scores(
    reasoner: SequenceRefiner, query: Tensor, candidates: Tensor, blend: float, sequences: int = 1
) -> Tensor:
    """Scores ``(B, h)`` of the candidates.

    Args:
        reasoner: Refines the cosines.
        query: ``(B, D)`` unit vectors; a zero vector's candidates all score 0.
        candidates: ``(B, h, D)`` unit vectors, best first.
        blend: Weight of the refined cosines.
        sequences: Every ``sequences``-th candidate goes into one sequence.
    """
    return finish(refined_cosines(reasoner, query, candidates, sequences), query, candidates, blend)


@torch.no_grad()
def refined_cosines(reasoner: SequenceRefiner, query: Tensor, candidates: Tensor, sequences: int = 1) -> Tensor:
    """What the network makes of the cosines, ``(B, h)``."""
    refined = torch.empty_like(candidates[:, :, 0])
    for first in range(sequences):
        unit = torch.cat([query[:, None], candidates[:, first::sequences]], dim=1)
        refined[:, first::sequences] = reasoner(unit)[:, 1:]
    return refined


def finish(refined: Tensor, query: Tensor, candidates: Tensor, blend: float) -> Tensor:
    """``blend`` of the refined cosines and the rest of the first ones; near-duplicates of the query score above 1."""
    first = (candidates * query[:, None]).sum(-1)
    mixed = blend * refined + (1 - blend) * first
    scores = (share_among_equals(mixed, first, candidates) * _TIE_STEPS).round() / _TIE_STEPS
    scores = torch.where(near_duplicates(first), 2 + first, scores)
    return scores.masked_fill((query == 0).all(1, keepdim=True), 0.0)


def share_among_equals(scores: Tensor, cosine: Tensor, candidates: Tensor) -> Tensor:
    """Candidates that are the same vector get the mean of their scores.

    Args:
        scores: ``(B, h)``.
        cosine: ``(B, h)`` to the query; equal vectors have equal ones.
        candidates: ``(B, h, D)``.
    """
    ordered, order = torch.sort(cosine, dim=1, stable=True)
    row, place = (ordered[:, 1:] == ordered[:, :-1]).nonzero(as_tuple=True)
    if not len(row):
        return scores
    same = (candidates[row, order[row, place]] == candidates[row, order[row, place + 1]]).all(1)
    starts = torch.ones_like(order)
    starts[row[same], place[same] + 1] = 0  # the same as the one before it
    group = starts.cumsum(1) - 1
    count = torch.zeros_like(scores).scatter_add_(1, group, torch.ones_like(scores))
    total = torch.zeros_like(scores).scatter_add_(1, group, scores.gather(1, order))
    mean = (total / count.clamp_min(1)).gather(1, group)
    return torch.empty_like(scores).scatter_(1, order, mean)
