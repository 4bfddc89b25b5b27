"""A query that learns where it has just looked, and what it saw there (an option beyond the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryUpdate(nn.Module):
    """``p + MLP(LN([v ; x ; y]))``: v the gated features of the round, x and y the center of its attention.

    The last layer starts near zero, so that at first every round asks with nearly the same query. Not in the paper, whose
    p^i is ``alpha_c * p^{i-1}`` (Eq. 4).

    Args:
        dim: c, of the query and the features.

    Shape:
        query, features ``(..., c)``; center ``(..., 2)`` in [-1, 1]; returns ``(..., c)``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim + 2)
        self.mlp = nn.Sequential(nn.Linear(dim + 2, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        nn.init.normal_(self.mlp[2].weight, std=0.01)
        nn.init.zeros_(self.mlp[2].bias)

    def forward(self, query: Tensor, features: Tensor, center: Tensor) -> Tensor:
        return query + self.mlp(self.norm(torch.cat([features, center.to(features.dtype)], dim=-1)))

    @staticmethod
    def positions(grid: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """``(L, 2)`` x and y of every cell of a map of (height, width), row by row, in [-1, 1]."""
        y, x = (torch.linspace(-1, 1, n, dtype=dtype, device=device) for n in grid)
        return torch.stack([x.repeat(grid[0]), y.repeat_interleave(grid[1])], dim=1)
