"""The top k of very long rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.ranking import stable_topk

_BLOCK = 64


def wide_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``stable_topk``, several times faster where k is much smaller than the row ``(Q, N)``.

    The k blocks of columns with the highest maxima (ties: lowest block) hold the k best columns, lowest column first
    among ties: at most k - 1 blocks hold something better than the k-th best, and each block after them that is
    needed holds at least one of its equals.
    """
    width = scores.shape[1] // _BLOCK * _BLOCK
    if 4 * k * _BLOCK > width:
        return stable_topk(scores, k)
    blocks = stable_topk(scores[:, :width].unflatten(1, (-1, _BLOCK)).amax(2), k)[1].sort(dim=1).values
    inside = torch.arange(_BLOCK, device=scores.device)
    columns = (blocks[:, :, None] * _BLOCK + inside).flatten(1)
    rest = torch.arange(width, scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, kept = stable_topk(scores.gather(1, columns), k)
    return values, columns.gather(1, kept)
