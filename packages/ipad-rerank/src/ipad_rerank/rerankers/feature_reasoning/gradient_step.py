"""One round's gradient step on the features in closed form (Wan et al. 2025, Eq. 13).

With ``D(f) = 1/2 sum_ij (target_ij - cos(f_i, f_j))^2``, G = target - cosine, H = G + G^T and unit vectors u:
``-dD/df_i = (sum_j H_ij u_j - <sum_j H_ij u_j, u_i> u_i) / |f_i|``. The step adds ``step_size / n`` times it.
In feature space this costs n^2 D; in Gram space, where only inner products are kept, n^3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SMALLEST_NORM = 1e-6


def feature_step(features: Tensor, update: Tensor, step_size: float) -> Tensor:
    """``features (B, n, D)`` after one step towards ``cosine + update (B, n, n)``."""
    norm = features.norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
    unit = features / norm
    pull = (update + update.transpose(1, 2)) @ unit
    pull = pull - (pull * unit).sum(-1, keepdim=True) * unit
    return features + step_size / features.shape[1] * pull / norm


class Gram(NamedTuple):
    """Features known by their inner products only: cosines ``(B, n, n)`` and norms ``(B, n)``."""

    cosine: Tensor
    norm: Tensor


def gram_step(gram: Gram, update: Tensor, step_size: float) -> Gram:
    """The same step on inner products."""
    mixing, mixed, norm = _mix(gram, update, step_size)
    cosine = mixed @ mixing.transpose(1, 2)
    return Gram(cosine / norm[:, :, None] / norm[:, None, :], norm)


def gram_step_query_row(gram: Gram, update: Tensor, step_size: float) -> Tensor:
    """Row 0 of the cosines after the step, ``(B, n)``, for a last round: saves one product of matrices."""
    mixing, mixed, norm = _mix(gram, update, step_size)
    row = (mixing @ mixed[:, 0, :, None])[:, :, 0]
    return row / norm / norm[:, :1]


def query_step(cosine: Tensor, row: Tensor, norm: Tensor, pull: Tensor, step_size: float) -> tuple[Tensor, Tensor]:
    """Move the query only: its cosines ``row (B, n)`` and norm ``(B,)`` after the step.

    Args:
        cosine: ``(B, n, n)`` of the unit vectors; row and column 0 are the query as it is now.
        row: ``cosine[:, 0]``.
        norm: ``(B,)`` of the query.
        pull: ``H[0]``, ``(B, n)``.
    """
    rate = step_size / row.shape[1]
    along = (pull * row).sum(1)  # <sum_j H_0j u_j, u_0>
    pulled = (cosine @ pull[:, :, None])[:, :, 0]  # <sum_j H_0j u_j, u_i>
    moved = norm[:, None] * row + rate / norm[:, None] * (pulled - along[:, None] * row)
    across = ((pull * pulled).sum(1) - along.square()).clamp_min(0)  # squared length of the pull across u_0
    new_norm = (norm.square() + (rate / norm).square() * across).sqrt().clamp_min(_SMALLEST_NORM)
    return torch.cat([torch.ones_like(row[:, :1]), moved[:, 1:] / new_norm[:, None]], dim=1), new_norm


def _mix(gram: Gram, update: Tensor, step_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """A with ``features' = A unit``, then ``A cosine`` and the new norms."""
    cosine, norm = gram
    norm = norm.clamp_min(_SMALLEST_NORM)
    mixing = update + update.transpose(1, 2)
    along = (mixing * cosine).sum(-1)
    rate = step_size / cosine.shape[-1] / norm
    mixing = mixing * rate[:, :, None]
    mixing.diagonal(dim1=1, dim2=2).add_(norm - rate * along)
    mixed = mixing @ cosine
    new_norm = (mixed * mixing).sum(-1).clamp_min(_SMALLEST_NORM**2).sqrt()
    return mixing, mixed, new_norm
