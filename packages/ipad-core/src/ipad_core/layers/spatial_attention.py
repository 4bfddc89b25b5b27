"""Iterative spatial attention (Eq. 1 and 3): keys of the map, a query of the attribute."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialAttention(nn.Module):
    """Activation of every position for an attribute, in a shared latent space.

    ``A(n) = sharpness / sqrt(c') * sum_c' tanh(W_x x_n + b_x) * tanh(W_p p + b_p)``: Eq. 1 summed over c' and divided
    by sqrt(c'), before the softmax of Eq. 3. One W_x and one W_p serve all iterations.

    Args:
        dim: c, of the map and of the attribute vector.
        latent_dim: c'.
        sharpness: Gain on the activations; 1 is the paper's formula.
        attribute_dim: Width of the attribute vector where it is not c.
    """

    def __init__(self, dim: int, latent_dim: int, sharpness: float = 1.0, attribute_dim: int | None = None) -> None:
        super().__init__()
        self.map_projection = nn.Linear(dim, latent_dim)
        self.attribute_projection = nn.Linear(attribute_dim or dim, latent_dim)
        self.gain = sharpness / math.sqrt(latent_dim)

    def keys(self, tokens: Tensor) -> Tensor:
        """``(N, L, c)`` positions to ``(N, L, c')`` keys."""
        return self.map_projection(tokens).tanh()

    def project(self, tokens: Tensor) -> Tensor:
        """``W_x x``, ``(N, L, c')``, for :meth:`weighted_keys`."""
        return F.linear(tokens, self.map_projection.weight)

    def weighted_keys(self, projected: Tensor, weights: Tensor) -> Tensor:
        """Keys of a map whose positions are weighted, for K kinds of weights.

        Args:
            projected: ``(N, L, c')`` of :meth:`project`: a weight on a position passes through W_x.
            weights: ``(N, K, L)``.

        Returns:
            ``(N, K, L, c')``.
        """
        bias, weights = self.map_projection.bias.to(projected.dtype), weights.to(projected.dtype)
        return torch.addcmul(
            bias, weights.unsqueeze(3), projected.unsqueeze(1)
        ).tanh_()  # the largest tensor: written once

    def forward(self, keys: Tensor, attribute: Tensor) -> Tensor:
        """Activations of attribute vectors over maps.

        Args:
            keys: ``(B, L, c')``; or ``(B, K, L, c')`` with a map for each of K vectors (K may be 1 there).
            attribute: ``(B, c)``, or K vectors a map: ``(B, K, c)``.

        Returns:
            ``(B, L)``, or ``(B, K, L)``.
        """
        query = self.attribute_projection(attribute).tanh()
        if keys.ndim == query.ndim == 3:
            return torch.bmm(query, keys.transpose(1, 2)) * self.gain  # all vectors in one product over the map
        return (keys @ query.unsqueeze(-1)).squeeze(-1) * self.gain
