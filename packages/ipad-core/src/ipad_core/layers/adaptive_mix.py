"""Two features of an entry mixed by weights that they ask for themselves (AttnFashion)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdaptiveMix(nn.Module):
    """``w_1 first + w_2 second`` with ``w = softmax([s_1 . first ; s_2 . second])``: one scalar score each.

    Args:
        dim: Width of both features.

    Shape:
        first, second ``(..., dim)``; returns ``(..., dim)``.

    References:
        Wan et al. 2022 (AttnFashion): the feature after the spatial and the one after the channel attention.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, 1), nn.Linear(dim, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        weights = torch.cat([self.first(first), self.second(second)], dim=-1).softmax(dim=-1)
        return weights[..., :1] * first + weights[..., 1:] * second
