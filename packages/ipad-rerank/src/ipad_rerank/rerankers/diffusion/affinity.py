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
    count, k = nearest.shape
    rows = torch.arange(count, device=nearest.device).repeat_interleave(k)
    columns, weights = nearest.reshape(-1), weights.reshape(-1)
    # Both directions of an edge share a key; sorted, they stand side by side.
    keys = torch.minimum(rows, columns) * count + torch.maximum(rows, columns)
    keys, order = torch.sort(keys)
    mutual = (keys[1:] == keys[:-1]).nonzero()[:, 0]
    low = torch.div(keys[mutual], count, rounding_mode="floor")
    high = keys[mutual] % count
    edge = (weights[order[mutual]] + weights[order[mutual + 1]]) / 2
    kept = edge > 0
    low, high, edge = low[kept], high[kept], edge[kept]
    ends, others = torch.cat([low, high]), torch.cat([high, low])
    order = torch.argsort(ends * count + others)
    ends, others, edge = ends[order], others[order], torch.cat([edge, edge])[order]
    lengths = torch.bincount(ends, minlength=count)
    offsets = lengths.cumsum(0) - lengths
    ones = torch.ones(count, 1, dtype=weights.dtype, device=weights.device)
    degree = _gather_sum(ones, others, offsets, edge)[:, 0]
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    edge = edge * scale[ends] * scale[others]
    return lambda flow: _gather_sum(flow, others, offsets, edge)


def dense_affinity(weights: Tensor, nearest: Tensor) -> Affinity:
    """As :func:`sparse_affinity` for batches of small graphs.

    Args:
        weights: ``(B, n, n)``, symmetric.
        nearest: ``(B, n, k)`` int64, without the node itself.
    """
    listed = torch.zeros_like(weights).scatter_(2, nearest, 1.0)
    edges = weights * listed * listed.mT
    degree = edges.sum(2)
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    edges = edges * scale[:, :, None] * scale[:, None]
    return lambda flow: torch.bmm(edges, flow)


def _gather_sum(flow: Tensor, others: Tensor, offsets: Tensor, edge: Tensor) -> Tensor:
    """``out[i] = sum over i's edges of edge * flow[other]``: a sparse-by-dense product in one kernel."""
    if not len(others):
        return torch.zeros_like(flow)
    return F.embedding_bag(others, flow, offsets, mode="sum", per_sample_weights=edge)
