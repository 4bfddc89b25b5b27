"""Mutual nearest-neighbor graphs, normalised by the degrees, as something to multiply with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Affinity = Callable[[Tensor], Tensor]
"""``f (N, B) -> S f``."""


def sparse_affinity(nearest: Tensor, weights: Tensor) -> Affinity:
    """Graph of N nodes with an edge where each is among the other's k nearest.

    Args:
        nearest: ``(N, k)`` int64, without the node itself.
        weights: ``(N, k)``, 0 or more; of an edge, the mean of both directions.
    """
    if not nearest.numel():
        return torch.zeros_like
    count = len(nearest)
    rows = torch.arange(count, device=nearest.device)[:, None]
    # Both directions of an edge share a key; sorted, they stand side by side.
    keys, order = torch.sort((torch.minimum(rows, nearest) * count + torch.maximum(rows, nearest)).flatten())
    mutual = (keys[1:] == keys[:-1]).nonzero()[:, 0]
    both = torch.stack([order[mutual], order[mutual + 1]])
    edges = torch.zeros_like(weights).flatten()
    edges[both] = weights.flatten()[both].mean(0)
    edges = edges.view_as(weights)
    scale = _scale(edges.sum(1))
    edges = edges * scale[:, None] * scale[nearest]
    return lambda flow: F.embedding_bag(nearest, flow, mode="sum", per_sample_weights=edges)  # one kernel


def dense_affinity(weights: Tensor, nearest: Tensor) -> Affinity:
    """As :func:`sparse_affinity` for batches of small graphs.

    Args:
        weights: ``(B, n, n)``, symmetric.
        nearest: ``(B, n, k)`` int64, without the node itself.
    """
    listed = torch.zeros_like(weights).scatter_(2, nearest, 1.0)
    edges = weights * listed * listed.mT
    scale = _scale(edges.sum(2))
    edges = edges * scale[:, :, None] * scale[:, None]
    return lambda flow: torch.bmm(edges, flow)


def _scale(degree: Tensor) -> Tensor:
    """``degree^(-1/2)``, 1 where it is 0."""
    return torch.where(degree > 0, degree, 1.0).rsqrt()
