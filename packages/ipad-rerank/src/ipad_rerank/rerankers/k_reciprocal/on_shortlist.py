"""k-reciprocal re-ranking of shortlists: each query with its n candidates is a small world of its own.

Batches of n-by-n matrices, so that memory grows with Q * n^2 whatever the gallery.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.rerankers.k_reciprocal.encoding import half_of
from ipad_rerank.search.topk import stable_topk

_TIE_BREAK = 2.0**-20


def refine_by_reciprocity(query: Tensor, candidates: Tensor, k1: int, k2: int, lambda_value: float) -> Tensor:
    """``1 - d*`` of unit queries ``(B, D)`` to their candidates ``(B, n, D)`` -> ``(B, n)``."""
    unit = torch.cat([query[:, None], candidates], dim=1)
    count = unit.shape[1]
    zero = (unit == 0).all(-1)
    cosine = torch.bmm(unit, unit.mT).clamp_(-1, 1)  # (B, n + 1, n + 1)
    row = cosine[:, 0, 1:].clone()
    largest = 2 - 2 * cosine.masked_fill(zero[:, None], 2.0).amin(2)
    distance = (2 - 2 * cosine) / torch.where(largest > 0, largest, 1.0)[:, :, None]
    distance.diagonal(dim1=1, dim2=2).zero_()
    cosine.masked_fill_(zero[:, None], -2.0).diagonal(dim1=1, dim2=2).fill_(2.0)
    nearest = stable_topk(cosine.flatten(0, 1), min(max(k1 + 1, k2), count))[1].view(len(unit), count, -1)
    alone = torch.arange(count, device=unit.device)[:, None]  # a zero vector has only itself
    nearest = torch.where(zero[:, :, None], alone, nearest)
    full, half = _reciprocal(nearest, zero, k1), _reciprocal(nearest, zero, half_of(k1))
    overlap = torch.bmm(full, half.mT)
    accepted = full * (3 * overlap > 2 * half.sum(2)[:, None])
    members = (full + torch.bmm(accepted, half)) > 0
    weights = torch.exp(-distance).masked_fill_(~members, 0.0)
    weights /= weights.sum(2, keepdim=True)
    if k2 > 1:
        lists = nearest[:, :, :k2]
        share = torch.full_like(lists, 1 / lists.shape[2], dtype=weights.dtype)
        chosen = torch.zeros_like(weights).scatter_add_(2, lists, share)
        weights = torch.bmm(chosen, weights)
    shared = torch.minimum(weights[:, :1], weights[:, 1:]).sum(2)
    score = (1 - lambda_value) * (shared / (2 - shared))
    if lambda_value > 0:
        return score + lambda_value * (1 - distance[:, 0, 1:])
    return score + _TIE_BREAK * row


def _reciprocal(nearest: Tensor, zero: Tensor, k: int) -> Tensor:
    """``(B, n, n)`` 0 or 1: are both among the other's first k + 1?"""
    listed = torch.zeros(*nearest.shape[:2], nearest.shape[1], dtype=torch.float32, device=nearest.device)
    listed.scatter_(2, nearest[:, :, : k + 1], 1.0)
    mutual = listed * listed.mT * (~zero[:, None])
    mutual.diagonal(dim1=1, dim2=2).fill_(1.0)
    return mutual
