"""Adaptive suppression of spatial attention (Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RULES = ("none", "soft", "keep_peak", "erase_peak")
_SOFTNESS = 0.1  # width of the soft threshold, in units of the map's range


def suppress(activation: Tensor, rule: str, ratio: float) -> Tensor:
    """Suppress the positions of a map that Eq. 2 masks, as an adjustment of its activations.

    The mask is read from the map's relative height ``R = (A - min A) / (max A - min A)``. The paper compares A itself
    with ``ratio * max A``, which keeps nothing where every activation is negative; on the range something always stays.

    - ``none``: the map as it is.
    - ``keep_peak``: Eq. 2. Positions with R < ratio have their activation set to zero, as the paper zeroes alpha_s there.
      A negative one stays as it is, since zero would lift it, above kept ones in places; where even the maximum is
      negative it falls to the map's minimum.
    - ``erase_peak``: the authors' public code, which masks R > ratio instead, so the peak goes: to zero, or to the minimum
      where the maximum is negative.
    - ``soft``: a differentiable form of keep_peak: ``A + log sigmoid((R - ratio) / 0.1)``, R without gradient.

    Args:
        activation: ``(..., L)`` over the positions.
        rule: One of ``RULES``.
        ratio: Paper symbol zeta, of the map's range, within [0, 1].

    Raises:
        ValueError: unknown rule.
    """
    if rule == "none":
        return activation
    if rule not in RULES:
        raise ValueError(f"suppression must be one of {', '.join(RULES)}, got {rule!r}")
    height = relative_height(activation.detach())
    if rule == "soft":
        return activation + F.logsigmoid((height - ratio) / _SOFTNESS)
    masked = height < ratio if rule == "keep_peak" else height > ratio
    detached = activation.detach()
    low, high = detached.amin(dim=-1, keepdim=True), detached.amax(dim=-1, keepdim=True)
    floor = torch.where(high > 0, activation.clamp(max=0.0) if rule == "keep_peak" else 0.0, low)
    return torch.where(masked, floor, activation)


def relative_height(maps: Tensor) -> Tensor:
    """``(A - min) / (max - min)`` of ``(..., L)`` maps, over L; zero for a constant map."""
    low = maps.amin(dim=-1, keepdim=True)
    return (maps - low) / (maps.amax(dim=-1, keepdim=True) - low).clamp_min(1e-12)
