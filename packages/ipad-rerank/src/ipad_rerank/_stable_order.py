"""Stable descending order of rows, fast on a CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SIGN = 0x7FFFFFFF


def stable_order(scores: Tensor) -> Tensor:
    """Columns of ``scores (B, N)`` from highest to lowest, ties by lowest column: int64 ``(B, N)``.

    On a CPU, float32 rows are sorted as whole numbers that carry their column in the low half, which is several times
    faster than a stable argsort and gives the same order. ``-0.0`` counts as ``0.0``; NaN is not allowed.
    """
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or scores.shape[1] >= 1 << 31:
        return torch.sort(scores, dim=1, descending=True, stable=True).indices
    bits = (scores + 0.0).contiguous().numpy().view(np.int32)  # adding 0.0 turns -0.0 into 0.0
    ascending = np.where(bits < 0, bits ^ _SIGN, bits)  # whole numbers in the order of the floats
    keys = (~ascending).astype(np.int64)  # descending
    keys <<= 32
    keys |= np.arange(scores.shape[1], dtype=np.int64)
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)
