"""The two branches as one embedding (Eq. 21)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FUSIONS = ("sum", "concat")


def fuse_branches(spatial: Tensor, semantic: Tensor, beta: float, how: str = "sum") -> Tensor:
    """``sqrt(beta) norm(f_sp) + sqrt(1 - beta) norm(f_se)``, or the two side by side; unit length.

    ``sum`` is Eq. 21 and wants both branches in one space, which the contrast of Eq. 15 brings about. ``concat`` is what
    RPF and the authors' public code do; the cosine of two such vectors is exactly ``beta cos_sp + (1 - beta) cos_se``.

    Args:
        spatial: ``(B, d)``.
        semantic: ``(B, d)``.
        beta: Weight of the spatial branch, within [0, 1].
        how: ``sum`` or ``concat``.

    Raises:
        ValueError: beta outside [0, 1], or an unknown fusion.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be within [0, 1], got {beta}")
    if how not in FUSIONS:
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {how!r}")
    dtype = torch.promote_types(spatial.dtype, torch.float32)
    left = beta**0.5 * F.normalize(spatial.to(dtype), dim=1)
    right = (1 - beta) ** 0.5 * F.normalize(semantic.to(dtype), dim=1)
    return F.normalize(left + right, dim=1) if how == "sum" else torch.cat([left, right], dim=1)
