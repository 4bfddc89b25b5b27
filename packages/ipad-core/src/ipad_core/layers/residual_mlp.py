"""Residual MLP with layer norm (Eq. 5 and 6)."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualMLP(nn.Module):
    """``LN(v + W_2 relu(W_1 v))`` with ``v = W_o x``; foreground and background share it.

    Args:
        in_dim: Width of the attended features.
        dim: d, width of the embedding.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project(features)
        return self.norm(projected + self.mlp(projected))
