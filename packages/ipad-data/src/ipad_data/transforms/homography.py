"""Homographies in the coordinates of ``grid_sample`` (each axis from -1 to 1), one for every image of a batch.

A matrix maps where a pixel of the result lies to where it is read from.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def rotation_scale_shift(angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``(N, 3, 3)`` matrices that turn by an angle (radians), scale, then shift.

    Shape:
        angle, scale ``(N,)``; shift ``(N, 2)``.
    """
    cos, sin = scale * angle.cos(), scale * angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = [cos, -sin, shift[:, 0], sin, cos, shift[:, 1], zero, zero, one]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def from_corners(inward: Tensor) -> Tensor:
    """``(N, 3, 3)`` homographies that map the square's corners to points moved inward from them.

    Args:
        inward: ``(N, 4, 2)`` how far each corner (top left, top right, bottom right, bottom left) moves towards the
            middle along x and y, within [0, 1).
    """
    corners = inward.new_tensor(_CORNERS)  # (4, 2)
    target = corners - corners.sign() * inward  # (N, 4, 2)
    x, y = corners[:, 0].expand(len(inward), 4), corners[:, 1].expand(len(inward), 4)
    u, v = target.unbind(dim=2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    equations = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2),
            torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2),
        ],
        dim=1,
    )  # (N, 8, 8)
    solution = torch.linalg.solve(equations, torch.cat([u, v], dim=1))  # (N, 8)
    return torch.cat([solution, torch.ones_like(solution[:, :1])], dim=1).view(-1, 3, 3)


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Images read through homographies, bilinearly; the border is continued outside.

    Shape:
        images ``(N, C, H, W)`` floating point; matrices ``(N, 3, 3)``; returns the shape of the images.
    """
    height, width = images.shape[-2:]
    y = (torch.arange(height, device=images.device, dtype=matrices.dtype) * 2 + 1) / height - 1
    x = (torch.arange(width, device=images.device, dtype=matrices.dtype) * 2 + 1) / width - 1
    points = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(x * y[:, None])])
    mapped = (matrices @ points.flatten(1)).view(-1, 3, height, width)
    grid = (mapped[:, :2] / mapped[:, 2:]).permute(0, 2, 3, 1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
