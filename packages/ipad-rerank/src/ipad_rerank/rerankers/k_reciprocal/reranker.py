"""k-reciprocal re-ranking, exact over the whole gallery without a gallery-by-gallery matrix, or on a shortlist.

References:
    Zhong et al. 2017, "Re-ranking person re-identification with k-reciprocal encoding". Where paper and the authors'
    code differ we follow the code, which everyone compares with: distances are divided by the largest one of their
    row, neighbor lists hold k + 1 entries with the vector itself, and half of k1 is rounded to even.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from ipad_rerank.rerankers.k_reciprocal.encoding import encode, half_of
from ipad_rerank.rerankers.k_reciprocal.neighborhoods import find_neighborhoods, joint_unit
from ipad_rerank.rerankers.k_reciprocal.search import search_reciprocal
from ipad_rerank.rerankers.plain import Grid, PlainReranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import stable_topk
from ipad_rerank.search.vectors import ArrayLike, positive_int

_TIE_BREAK = 2.0**-20


@dataclass(frozen=True)
class KReciprocal(PlainReranker):
    """Rank by the overlap of k-reciprocal neighbor sets, blended with the distance.

    ``d*(q, g) = (1 - lambda) * Jaccard(V_q, V_g) + lambda * d(q, g)``; the scores returned are ``1 - d*``.

    The defaults are the authors', for data with a handful of positives per query. With hundreds they do worse than
    nothing: let ``tune`` choose.

    Args:
        k1: Neighbors whose reciprocity is asked for.
        k2: Neighbors (the vector itself is one) over which encodings are averaged; 1 averages nothing.
        lambda_value: Weight of the distance, within [0, 1]. At 0, equal scores are told apart by cosine.
        restrict_to: None works on query set and gallery together, as published; a number re-orders that many of each
            query's candidates, with neighbors looked for among the query and these only.
    """

    grid: ClassVar[Grid] = {"k1": (10, 20, 50, 100, 200), "k2": (1, 6, 20, 50), "lambda_value": (0.0, 0.1, 0.3, 0.6)}
    sizes = ("k1", "k2")
    ranges: ClassVar[dict[str, str]] = {"lambda_value": "[0, 1]"}
    pair_cost = 16

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    restrict_to: int | None = None

    @property
    def is_sensible(self) -> bool:
        """Averaging over more neighbors than are looked at is not k-reciprocal encoding."""
        return self.k2 <= self.k1

    def search(self, asked: Retrieval) -> Ranking:
        """On query set and gallery together, as published."""
        return next(self.sweep([self], asked))[1]

    @classmethod
    def sweep(cls, rerankers: Sequence[KReciprocal], asked: Retrieval) -> Iterator[tuple[int, Ranking]]:
        """As in the base class; neighborhoods are found once, encodings of equal k1 and overlaps of equal k2 too."""
        if rerankers[0].restrict_to is not None:
            yield from super().sweep(rerankers, asked)
            return
        largest = max(max(reranker.k1 + 1, reranker.k2) for reranker in rerankers)
        unit = joint_unit(asked.pair)
        around = find_neighborhoods(unit, largest, asked.options.batch_size, asked.options.progress)
        places = sorted(range(len(rerankers)), key=lambda place: (rerankers[place].k1, rerankers[place].k2))
        for k1, same_k1 in groupby(places, key=lambda place: rerankers[place].k1):
            encoded = encode(around, k1)
            for k2, same_k2 in groupby(same_k1, key=lambda place: rerankers[place].k2):
                group = list(same_k2)
                values = [rerankers[place].lambda_value for place in group]
                found = search_reciprocal(
                    around, len(asked.queries), encoded, k2, values, asked.length, asked.options.progress
                )
                for place, best in zip(group, found, strict=True):
                    yield place, asked.in_kind(*best)

    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        """``1 - d*`` in batches of n-by-n matrices: each query with its candidates is a small world of its own."""
        unit = torch.cat([query[:, None], candidates], dim=1)
        count = unit.shape[1]
        zero = (unit == 0).all(-1)
        cosine = torch.bmm(unit, unit.mT).clamp_(-1, 1)  # (B, n + 1, n + 1)
        row = cosine[:, 0, 1:].clone()
        largest = 2 - 2 * cosine.masked_fill(zero[:, None], 2.0).amin(2)
        distance = (2 - 2 * cosine) / torch.where(largest > 0, largest, 1.0)[:, :, None]
        distance.diagonal(dim1=1, dim2=2).zero_()
        cosine.masked_fill_(zero[:, None], -2.0).diagonal(dim1=1, dim2=2).fill_(2.0)
        nearest = stable_topk(cosine.flatten(0, 1), min(max(self.k1 + 1, self.k2), count))[1].view(
            len(unit), count, -1
        )
        alone = torch.arange(count, device=unit.device)[:, None]  # a zero vector has only itself
        nearest = torch.where(zero[:, :, None], alone, nearest)
        full, half = _reciprocal(nearest, zero, self.k1), _reciprocal(nearest, zero, half_of(self.k1))
        overlap = torch.bmm(full, half.mT)
        accepted = full * (3 * overlap > 2 * half.sum(2)[:, None])
        members = (full + torch.bmm(accepted, half)) > 0
        weights = torch.exp(-distance).masked_fill_(~members, 0.0)
        weights /= weights.sum(2, keepdim=True)
        if self.k2 > 1:
            lists = nearest[:, :, : self.k2]
            share = torch.full_like(lists, 1 / lists.shape[2], dtype=weights.dtype)
            chosen = torch.zeros_like(weights).scatter_add_(2, lists, share)
            weights = torch.bmm(chosen, weights)
        shared = torch.minimum(weights[:, :1], weights[:, 1:]).sum(2)
        score = (1 - self.lambda_value) * (shared / (2 - shared))
        if self.lambda_value > 0:
            return score + self.lambda_value * (1 - distance[:, 0, 1:])
        return score + _TIE_BREAK * row


def _reciprocal(nearest: Tensor, zero: Tensor, k: int) -> Tensor:
    """``(B, n, n)`` 0 or 1: are both among the other's first k + 1?"""
    listed = torch.zeros(*nearest.shape[:2], nearest.shape[1], dtype=torch.float32, device=nearest.device)
    listed.scatter_(2, nearest[:, :, : k + 1], 1.0)
    mutual = listed * listed.mT * (~zero[:, None])
    mutual.diagonal(dim1=1, dim2=2).fill_(1.0)
    return mutual


def k_reciprocal(
    query: ArrayLike,
    gallery: ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    k: int | None = None,
    *,
    restrict_to: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Ranking:
    """Rank the gallery by k-reciprocal distance: see :class:`KReciprocal`.

    Exact: the published result, with memory that grows with ``(Q + G) * k1`` and ``Q * k``, and time with
    ``(Q + G)^2`` (every vector looks for its neighbors). With ``restrict_to``, the cosine ranking's first candidates
    are re-ordered by the same mathematics on each shortlist, in time that grows with ``Q * restrict_to^2``.

    Args:
        query: ``(Q, D)`` numpy array, torch tensor or lists; need not be unit length.
        gallery: ``(G, D)``.
        k1: Neighbors whose reciprocity is asked for.
        k2: Neighbors over which encodings are averaged.
        lambda_value: Weight of the distance.
        k: Length of the lists; None keeps the whole gallery.
        restrict_to: How many candidates to re-order; None for the whole gallery.
        batch_size: Rows at a time in the neighbor search; by default from free memory.
        progress: Show a bar; by default on a terminal.

    Returns:
        Ranking of the query's kind; scores are ``1 - d*``. Zero vectors of the gallery come last.
    """
    options = Options(batch_size, progress=progress)
    asked = Retrieval(query, gallery, k=None if k is None else positive_int(k, "k"), options=options)
    return KReciprocal(k1, k2, lambda_value, restrict_to).answer(asked)
