"""Put a re-ordered head back in front of its tail."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank.ranking import Ranking


def splice(ranking: Ranking, refined: Tensor) -> Ranking:
    """``ranking`` with its first ``refined.shape[1]`` candidates sorted by ``refined (Q, h)``, ties in the old order.

    The tail keeps order and scores; a head that would score below its tail is raised as a whole, so scores descend.
    """
    indices, scores = ranking.tensors()
    head = refined.shape[1]
    refined, order = torch.sort(refined.to(indices.device), dim=1, descending=True, stable=True)
    front = indices[:, :head].gather(1, order)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    refined, tail = refined.to(dtype), scores[:, head:].to(dtype)
    if tail.shape[1]:
        floor = tail[:, :1]
        refined = torch.maximum(refined + (floor - refined[:, -1:]).clamp_min(0), floor)
    return ranking.like(torch.cat([front, indices[:, head:]], 1), torch.cat([refined, tail], 1))
