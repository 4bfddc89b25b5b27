"""Which class a query may ask for, and how many items of it a gallery has, guessed from labelled vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ipad_rerank.rerankers.labelled import LabelledSearch
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Tensors
from ipad_rerank.rerankers.shortlist import Shortlist

DEPTH = 50
"""Candidates that are looked at."""

MOST = 20_000
"""Vectors that are read of all classes together, about: fewer of each where there are many classes."""

LIKELY = 20
"""Classes that a query's candidates are divided among: the likeliest ones of the query."""

_LEAST = 3  # vectors of a class, where it has them
_SHRINK = 0.3
_FLOOR = 0.01  # variance within a class, all dimensions together, at least; a unit vector's is at most 1
_TEMPERATURES = (1.0, 3.0)
_TOGETHER = 2.0  # temperature at which query and candidate are of the same class
_SMALL = (10, 50)
_TRACE = 1e-3  # probabilities are kept away from 0 and 1 by this much
_FIRST = (10, DEPTH)


@dataclass(frozen=True, eq=False)
class Census:
    """A linear discriminant analysis of labelled vectors, and how large a part of a gallery each class is.

    A vector ``x`` is of class ``c`` with a probability in proportion to ``exp(-d / (2 temperature))``, where ``d`` is
    ``(x - mean_c)^T S^-1 (x - mean_c)`` and ``S`` the covariance within classes, shrunk towards a multiple of the identity.
    That is the softmax of ``x . weights_c + bias_c``. All classes count alike, however large they are: it is the small ones
    that are to be noticed.

    Args:
        weights: ``(C, D)``.
        bias: ``(C,)``.
        shares: ``(C,)`` of the gallery's rows that are of the class.
        gallery_size: Rows of that gallery; taken where the size of another one is not known.
    """

    weights: Tensor
    bias: Tensor
    shares: Tensor
    gallery_size: int

    @classmethod
    def of(cls, parts: Sequence[LabelledSearch]) -> Self:
        """Of the labelled galleries that were searched; a class of each counts as one of its own."""
        dim = parts[0].asked.items.dim
        within, spare = torch.zeros(dim, dim, dtype=torch.float64), 0
        means, shares = [], []
        most = max(_LEAST, MOST // max(sum(len(part.classes[part.classes >= 0].unique()) for part in parts), 1))
        for part in parts:
            order = part.classes.argsort(stable=True)
            order = order[part.classes[order] >= 0]
            _, which, counts = part.classes[order].unique_consecutive(return_inverse=True, return_counts=True)
            kept = torch.arange(len(order)) - (counts.cumsum(0) - counts)[which] < most
            unit, which, few = (
                part.asked.items.unit(order[kept], torch.float64, "cpu"),
                which[kept],
                counts.clamp_max(most),
            )
            means.append(torch.zeros(len(counts), dim, dtype=torch.float64).index_add(0, which, unit) / few[:, None])
            unit = unit - means[-1][which]
            within += unit.T @ unit
            spare += len(unit) - len(counts)
            shares.append(counts / len(part.classes))
        within /= max(spare, 1)
        scale = within.trace().clamp_min(_FLOOR) / dim
        within = (1 - _SHRINK) * within + _SHRINK * scale * torch.eye(dim, dtype=torch.float64)
        mean = torch.cat(means)
        weights = torch.linalg.solve(within, mean.T).T
        bias = -(weights * mean).sum(1) / 2
        weights, bias = weights - weights.mean(0), bias - bias.mean()  # what all share is rounding error in 32 bits
        return cls(weights.float(), bias.float(), torch.cat(shares), max(len(part.classes) for part in parts))

    def features(self, asked: Retrieval) -> Tensor:
        """``(Q, 8)`` float64 on the CPU: for each of two temperatures the mean log of the class's size in the gallery asked,
        and the log odds that it has less than 10 and less than 50 items; then, by the log, how many of the first 10 and of
        the first 50 candidates are likely to be of the query's own class."""
        lists, found = Shortlist(asked, DEPTH), []
        size = (self.shares * (asked.gallery_size or self.gallery_size)).to(lists.device, lists.dtype)
        known = torch.stack([size.clamp_min(1).log(), *((size < few).to(size) for few in _SMALL)], dim=1)  # (C, 3)
        weights, bias = self.weights.to(size), self.bias.to(size)
        likely = min(LIKELY, len(size))
        for rows in asked.batches(4 * (len(size) + (DEPTH + likely) * (asked.items.dim + likely))):
            query, unit = lists.batch(rows)
            logits = query @ weights.T + bias  # (B, C)
            columns = []
            for temperature in _TEMPERATURES:
                mean, *small = ((logits / temperature).softmax(1) @ known).T
                columns += [mean, *(share.clamp(_TRACE, 1 - _TRACE).logit() for share in small)]
            best, classes = logits.topk(likely)
            others = unit @ weights[classes].mT + bias[classes][:, None]  # (B, n, likely)
            together = ((others / _TOGETHER).softmax(2) @ (best / _TOGETHER).softmax(1)[:, :, None])[:, :, 0]
            columns += [together[:, :count].sum(1).log1p() for count in _FIRST]
            found.append(torch.stack(columns, dim=1).double().cpu())
        return torch.cat(found)

    def tensors(self) -> Tensors:
        return {"census.weights": self.weights, "census.bias": self.bias, "census.shares": self.shares}
