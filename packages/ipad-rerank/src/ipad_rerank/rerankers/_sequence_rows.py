"""Where the vectors of a sequence come from: the gallery by index, or candidates given with each query."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors
from ipad_rerank._memory import rows_that_fit, work_budget
from ipad_rerank.ranking import Ranking


class GalleryRows:
    """The head's vectors, looked up in the gallery."""

    def __init__(self, items: Vectors, ranking: Ranking, head: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._items, self._dtype = items, dtype
        self._indices = ranking.tensors()[0][:, :head]
        self._unit = None
        size = 8 if dtype == torch.float64 else 4
        if len(items) <= self._indices.numel() and 4 * size * len(items) * items.dim <= work_budget(device):
            self._unit = items.unit(0, len(items), dtype, device)  # small enough: normalise every row once
            self._indices = self._indices.to(device)

    def rows(self, start: int, stop: int) -> Tensor:
        indices = self._indices[start:stop]
        if self._unit is None:
            return self._items.take(indices, self._dtype, self.device)
        return self._unit[indices]


class CandidateRows:
    """The head's vectors, in the candidates given with each query."""

    def __init__(self, items: Vectors, ranking: Ranking, head: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._items, self._dtype = items, dtype
        self._indices = ranking.tensors()[0][:, :head].to(device)

    def rows(self, start: int, stop: int) -> Tensor:
        unit = self._items.unit(start, stop, self._dtype, self.device)
        return unit.take_along_dim(self._indices[start:stop, :, None], dim=1)


def rank_candidates(queries: Vectors, items: Vectors, dtype: torch.dtype, device: torch.device) -> Ranking:
    """Each query's candidates ``(Q, k, D)`` by cosine."""
    scores = torch.empty(items.shape[:2], dtype=dtype, device=device)
    step = rows_that_fit(16 * items.shape[1] * items.dim, device)
    for start in range(0, len(items), step):
        stop = min(start + step, len(items))
        unit = items.unit(start, stop, dtype, device)
        own = queries.unit(start, stop, dtype, device)
        scores[start:stop] = (unit * own[:, None]).sum(-1).clamp_(-1, 1)
        scores[start:stop][(unit == 0).all(-1)] = ZERO_VECTOR_SCORE
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return Ranking(queries.in_kind(order), queries.in_kind(scores))
