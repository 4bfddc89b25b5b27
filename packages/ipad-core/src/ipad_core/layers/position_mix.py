"""Where a cell lies, mixed into what it shows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PositionMix(nn.Module):
    """Appends ten position channels to a map and mixes them in with two 1x1 convolutions.

    A small trunk trained from scratch on few images does not encode position by itself. Not in the paper; off in its
    preset.

    Args:
        dim: Channels of the map, in and out.
    """

    num_channels = 10  # x, y, and sine and cosine of each at one and two half-periods

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (dim + self.num_channels, dim):
            layers += [nn.Conv2d(width, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU()]
        self.mix = nn.Sequential(*layers)

    def forward(self, feature_map: Tensor) -> Tensor:
        positions = position_channels(*feature_map.shape[2:], like=feature_map)
        return self.mix(torch.cat([feature_map, positions.expand(feature_map.shape[0], -1, -1, -1)], dim=1))


def position_channels(height: int, width: int, like: Tensor) -> Tensor:
    """``(1, 10, height, width)`` channels in [-1, 1], of the dtype and device of ``like``."""
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)[None].expand(height, width)
    angles = [math.pi * k / 2 * axis for k in (1, 2) for axis in (x, y)]
    return torch.stack([x, y, *(a.sin() for a in angles), *(a.cos() for a in angles)])[None]
