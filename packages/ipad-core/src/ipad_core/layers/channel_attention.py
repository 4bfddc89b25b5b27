"""Iterative channel attention (Eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Gates of the channels, from the pooled image features and the attribute.

    ``alpha_c = sigmoid(W_2 relu(W_1 [s ; relu(W_c p)]))``. The text sums x^i "along the channel dimension"; the result
    must have c entries, so the sum runs over the positions.

    Args:
        dim: c, of both inputs.
        latent_dim: c', width of ``W_c p``.
        reduction: r, of the bottleneck.

    Shape:
        pooled, attribute ``(..., c)``; returns ``(..., c)`` in (0, 1).
    """

    def __init__(self, dim: int, latent_dim: int, reduction: int = 4) -> None:
        super().__init__()
        self.attribute = nn.Linear(dim, latent_dim)
        self.squeeze = nn.Linear(dim + latent_dim, max(1, dim // reduction))
        self.excite = nn.Linear(max(1, dim // reduction), dim)

    def forward(self, pooled: Tensor, attribute: Tensor) -> Tensor:
        return gate_channels(self.squeeze, self.excite, pooled, self.attribute(attribute).relu())


def gate_channels(squeeze: nn.Linear, excite: nn.Linear, pooled: Tensor, context: Tensor) -> Tensor:
    """``sigmoid(W_2 relu(W_1 [pooled ; context]))``; a context without the leading dimensions serves all of them."""
    joined = torch.cat([pooled, context.expand(*pooled.shape[:-1], -1)], dim=-1)
    return excite(squeeze(joined).relu()).sigmoid()
