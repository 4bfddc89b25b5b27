"""Many symmetric positive definite systems of one size, solved together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    multiply: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, max_iterations: int
) -> Tensor:
    """x in ``A x = right``, column by column.

    Args:
        multiply: ``x -> A x``, A symmetric positive definite.
        right: ``(N, B)``, or ``(..., N, B)`` where A differs along the leading axes.
        tolerance: Stop when each residual's norm is at most this share of its right side's norm.
        max_iterations: ... or after so many steps. A column that is done keeps its value, so that the result does not
            depend on which columns are solved together.
    """
    solution = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    energy = (residual * residual).sum(-2, keepdim=True)
    enough = energy * tolerance**2
    for _ in range(max_iterations):
        active = energy > enough
        if not bool(active.any()):
            break
        image = multiply(direction)
        curvature = (direction * image).sum(-2, keepdim=True)
        length = torch.where(active & (curvature > 0), energy / curvature, 0.0)
        solution += length * direction
        residual -= length * image
        following = torch.where(active, (residual * residual).sum(-2, keepdim=True), energy)
        direction = residual + torch.where(active, following / energy, 0.0) * direction
        energy = following
    return solution
