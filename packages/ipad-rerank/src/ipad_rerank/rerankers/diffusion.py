"""Graph diffusion: similarity to a query flows along a nearest-neighbor graph of the gallery.

References:
    Zhou et al. 2003, "Ranking on data manifolds". Iscen et al. 2017, "Efficient diffusion on region manifolds".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank.rerankers.plain import Grid, PlainReranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.search.cosine import gallery_neighbors, padded_cosine
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.topk import stable_topk
from ipad_rerank.search.vectors import ZERO_VECTOR_SCORE, ArrayLike

Affinity = Callable[[Tensor], Tensor]
"""``f (N, B) -> S f``, S a graph of mutual nearest neighbors, normalised by the degrees."""


@dataclass(frozen=True)
class GraphDiffusion(PlainReranker):
    """Rank by f in ``(I - alpha * S) f = y``.

    S is the gallery's mutual k-nearest-neighbor graph, weights ``max(0, cos)^gamma``, normalised by the degrees on
    both sides. y holds the query's ``max(0, cos)^gamma`` at its ``query_neighbors`` best candidates, 0 elsewhere. The
    candidates are those of the ranking given, in its order.

    Scores are f where something flowed. Rows that nothing reaches come after, by cosine: score ``(cos - 1) / 2``.

    Args:
        k: Neighbors of the graph.
        alpha: How far similarity flows, within [0, 1).
        query_neighbors: Candidates from which it flows.
        gamma: Exponent of the weights.
        restrict_to: None builds the graph of the whole gallery (one search of the gallery in itself); a number uses
            the graph of each query's first candidates only and re-orders these.
        tolerance: Conjugate gradient stops when every residual is below this share of its y.
        max_iterations: ... or here.
    """

    grid: ClassVar[Grid] = {"k": (10, 20, 50, 100), "alpha": (0.8, 0.9, 0.99), "query_neighbors": (5, 10, 20, 50)}
    sizes = ("k", "query_neighbors", "max_iterations")
    ranges: ClassVar[dict[str, str]] = {"alpha": "[0, 1)", "gamma": "[0, inf)", "tolerance": "[0, 1)"}
    pair_cost = 8

    k: int = 50
    alpha: float = 0.9
    query_neighbors: int = 10
    gamma: float = 3.0
    restrict_to: int | None = None
    tolerance: float = 1e-4
    max_iterations: int = 200

    @classmethod
    def shared_work(cls, rerankers: Sequence[GraphDiffusion], gallery: ArrayLike) -> dict[str, Ranking]:
        return {"neighbors": gallery_neighbors(gallery, max(reranker.k for reranker in rerankers))}

    def search(self, asked: Retrieval, neighbors: Ranking | None = None) -> Ranking:
        """On the graph of the whole gallery; ``neighbors`` are the gallery's, k or more, where the caller has them."""
        queries, items, dtype, device, k = asked.queries, asked.items, asked.dtype, asked.device, asked.length
        neighbors = gallery_neighbors(asked.gallery, self.k) if neighbors is None else neighbors.top(self.k)
        nearest, cosine = neighbors.tensors()
        affinity = sparse_affinity(nearest.to(device), self._weigh(cosine.to(device, dtype)))
        start = asked.ranking.tensors()[0][:, : self.query_neighbors].to(device)
        indices = torch.empty(len(queries), k, dtype=torch.int64, device=device)
        scores = torch.empty(len(queries), k, dtype=dtype, device=device)
        for rows in asked.batches(12 * len(items), "Diffusion", most=512):
            query = queries.unit(rows, dtype, device)
            near = items.unit(start[rows], dtype, device)
            weights = self._weigh(torch.einsum("bd,bkd->bk", query, near))
            source = torch.zeros(len(query), len(items), dtype=dtype, device=device).scatter_(1, start[rows], weights)
            flow = self._solve(affinity, source.T.contiguous()).T
            scores[rows], indices[rows] = stable_topk(_scores(flow, padded_cosine(query, items)), k)
        return asked.in_kind(indices, scores)

    def refine(self, query: Tensor, candidates: Tensor) -> Tensor:
        count = candidates.shape[1]
        between = torch.bmm(candidates, candidates.mT).clamp_(-1, 1)
        between.masked_fill_((candidates == 0).all(-1)[:, None], ZERO_VECTOR_SCORE)
        between.diagonal(dim1=1, dim2=2).fill_(-3)
        cosine = torch.einsum("bd,bkd->bk", query, candidates).clamp(-1, 1)
        source = self._weigh(cosine)
        source[:, self.query_neighbors :] = 0
        if count == 1:
            return _scores(source, cosine)
        near = stable_topk(between.flatten(0, 1), min(self.k, count - 1))[1].view(len(query), count, -1)
        affinity = dense_affinity(self._weigh(between), near)
        return _scores(self._solve(affinity, source[:, :, None])[:, :, 0], cosine)

    def _weigh(self, cosine: Tensor) -> Tensor:
        return torch.where(cosine > 0, cosine.clamp(0, 1) ** self.gamma, 0.0)

    def _solve(self, affinity: Affinity, source: Tensor) -> Tensor:
        if self.alpha == 0:
            return source
        return conjugate_gradient(
            lambda flow: flow - self.alpha * affinity(flow), source, self.tolerance, self.max_iterations
        )


def _scores(flow: Tensor, cosine: Tensor) -> Tensor:
    return torch.where(flow > 0, flow, ((cosine - 1) / 2).masked_fill(cosine == ZERO_VECTOR_SCORE, ZERO_VECTOR_SCORE))


def sparse_affinity(nearest: Tensor, weights: Tensor) -> Affinity:
    """Graph of N nodes with an edge where each is among the other's k nearest.

    Args:
        nearest: ``(N, k)`` int64, without the node itself.
        weights: ``(N, k)``, 0 or more; of an edge, the mean of both directions.
    """
    if not nearest.numel():
        return torch.zeros_like
    count = len(nearest)
    rows = torch.arange(count, device=nearest.device)[:, None]
    # Both directions of an edge share a key; sorted, they stand side by side.
    keys, order = torch.sort((torch.minimum(rows, nearest) * count + torch.maximum(rows, nearest)).flatten())
    mutual = (keys[1:] == keys[:-1]).nonzero()[:, 0]
    both = torch.stack([order[mutual], order[mutual + 1]])
    edges = torch.zeros_like(weights).flatten()
    edges[both] = weights.flatten()[both].mean(0)
    edges = edges.view_as(weights)
    scale = _scale(edges.sum(1))
    edges = edges * scale[:, None] * scale[nearest]
    return lambda flow: F.embedding_bag(nearest, flow, mode="sum", per_sample_weights=edges)  # one kernel


def dense_affinity(weights: Tensor, nearest: Tensor) -> Affinity:
    """As :func:`sparse_affinity` for batches of small graphs.

    Args:
        weights: ``(B, n, n)``, symmetric.
        nearest: ``(B, n, k)`` int64, without the node itself.
    """
    listed = torch.zeros_like(weights).scatter_(2, nearest, 1.0)
    edges = weights * listed * listed.mT
    scale = _scale(edges.sum(2))
    edges = edges * scale[:, :, None] * scale[:, None]
    return lambda flow: torch.bmm(edges, flow)


def _scale(degree: Tensor) -> Tensor:
    """``degree^(-1/2)``, 1 where it is 0."""
    return torch.where(degree > 0, degree, 1.0).rsqrt()


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
