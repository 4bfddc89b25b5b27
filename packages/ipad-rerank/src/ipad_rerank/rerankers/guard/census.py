"""Which class a query may ask for, and how many items of it a gallery has, guessed from labelled vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

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
_FLOOR = 0.01  # of a variance, all dimensions together, at least; a unit vector's is at most 1
_TEMPERATURES = (1.0, 3.0)
_TOGETHER = 2.0  # temperature at which query and candidate are of the same class
_SMALL = (10, 50)
_TRACE = 1e-3  # probabilities are kept away from 0 and 1 by this much
_FIRST = (10, DEPTH)


class Spread(NamedTuple):
    """How vectors lie around the means of their classes: the inverse of W, and what tells a class that is not known.

    Its tensors are float64: ``inverse (D, D)``, ``unknown (D, D)`` and ``odds ()``, the bias of that class.
    """

    inverse: Tensor
    unknown: Tensor
    odds: Tensor

    @classmethod
    def of(cls, parts: Sequence[LabelledSearch]) -> Self:
        """Of labelled galleries."""
        found = list(_class_means(parts))
        centers = torch.cat([means for means, *_ in found])
        rest = torch.cat([unit - means[which] for means, _, unit, which in found])
        within = _covariance(rest, len(rest) - len(centers))
        both = within + _covariance(centers - centers.mean(0), len(centers) - 1)
        inverse = torch.linalg.inv(within)
        values, axes = torch.linalg.eigh((inverse - torch.linalg.inv(both)) / 2)
        odds = (torch.linalg.slogdet(within).logabsdet - torch.linalg.slogdet(both).logabsdet) / 2
        return cls(inverse, axes * values.clamp_min(0).sqrt(), odds)


@dataclass(frozen=True, eq=False)
class Census:
    """A discriminant analysis of labelled vectors, and how large a part of a gallery each of their classes is.

    Vectors of a class are taken to be normal around its mean with a covariance W that all classes share, those of a class
    that is not known around the mean m of all classes with W + B, where B is the covariance of the classes' means. Both are
    shrunk towards a multiple of the identity. All classes count alike, however large they are: it is the small ones that are
    to be noticed. A vector ``x`` is divided among them by the softmax of ``(x - m) . weights_c + bias_c``, and of
    ``|(x - m) unknown|^2 + bias`` for the class that is not known, over a temperature.

    Args:
        mean: ``(D,)``, m.
        weights: ``(C, D)``.
        unknown: ``(D, D)``.
        bias: ``(C + 1,)``, the last one of the class that is not known.
        shares: ``(C,)`` of the gallery's rows that are of the class.
        gallery_size: Rows of that gallery; taken where the size of another one is not known.
    """

    mean: Tensor
    weights: Tensor
    unknown: Tensor
    bias: Tensor
    shares: Tensor
    gallery_size: int

    @classmethod
    def of(cls, parts: Sequence[LabelledSearch], spread: Spread | None = None) -> Self:
        """Of the labelled galleries that were searched; a class of each counts as one of its own.

        Args:
            parts: The galleries.
            spread: Of these or nearly the same galleries; None to find it.
        """
        spread = Spread.of(parts) if spread is None else spread
        found = list(_class_means(parts))
        centers = torch.cat([means for means, *_ in found])
        mean = centers.mean(0)
        centers = centers - mean
        weights = centers @ spread.inverse
        bias = torch.cat([-(weights * centers).sum(1) / 2, spread.odds[None]])
        numbers = (value.float().contiguous() for value in (mean, weights, spread.unknown, bias))
        return cls(*numbers, torch.cat([shares for _, shares, *_ in found]), max(len(part.classes) for part in parts))

    def features(self, asked: Retrieval) -> Tensor:
        """``(Q, 9)`` float64 on the CPU, for each query:

        * how likely its class is not known;
        * if it is known, for each of two temperatures: the mean log of the class's size in the gallery asked, and the log
          odds that it has less than 10 and less than 50 items;
        * how many of the first 10 and of the first 50 candidates are likely to be of the query's own class, by the log.
        """
        lists, found = Shortlist(asked, DEPTH), []
        size = (self.shares * (asked.gallery_size or self.gallery_size)).to(lists.device, lists.dtype)
        known = torch.stack([size.clamp_min(1).log(), *((size < few).to(size) for few in _SMALL)], dim=1)  # (C, 3)
        mean, weights, unknown, bias = (v.to(size) for v in (self.mean, self.weights, self.unknown, self.bias))
        likely = min(LIKELY, len(size))
        for rows in asked.batches(4 * (len(size) + (DEPTH + likely) * (asked.items.dim + likely))):
            query, unit = (vectors - mean for vectors in lists.batch(rows))
            logits = torch.cat([query @ weights.T, (query @ unknown).square().sum(1, keepdim=True)], dim=1) + bias
            columns = [logits.softmax(1)[:, -1]]
            logits = logits[:, :-1]
            for temperature in _TEMPERATURES:
                large, *small = ((logits / temperature).softmax(1) @ known).T
                columns += [large, *(share.clamp(_TRACE, 1 - _TRACE).logit() for share in small)]
            best, classes = logits.topk(likely)
            others = unit @ weights[classes].mT + bias[classes][:, None]  # (B, n, likely)
            together = ((others / _TOGETHER).softmax(2) @ (best / _TOGETHER).softmax(1)[:, :, None])[:, :, 0]
            columns += [together[:, :count].sum(1).log1p() for count in _FIRST]
            found.append(torch.stack(columns, dim=1).double().cpu())
        return torch.cat(found)

    def tensors(self) -> Tensors:
        return {f"census.{name}": getattr(self, name) for name in NAMES}


NAMES = ("mean", "weights", "unknown", "bias", "shares")
"""Of a census's tensors."""


def _class_means(parts: Sequence[LabelledSearch]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """For each gallery ``(C, D)`` means of its classes and ``(C,)`` their shares, and ``(n, D)`` unit vectors with the
    number of the class of each."""
    most = max(_LEAST, MOST // max(sum(len(part.classes[part.classes >= 0].unique()) for part in parts), 1))
    for part in parts:
        order = part.classes.argsort(stable=True)
        order = order[part.classes[order] >= 0]
        _, which, counts = part.classes[order].unique_consecutive(return_inverse=True, return_counts=True)
        kept = torch.arange(len(order)) - (counts.cumsum(0) - counts)[which] < most
        unit, which = part.asked.items.unit(order[kept], torch.float64, "cpu"), which[kept]
        sums = torch.zeros(len(counts), unit.shape[1], dtype=torch.float64).index_add(0, which, unit)
        yield sums / counts.clamp_max(most)[:, None], counts / len(part.classes), unit, which


def _covariance(away: Tensor, freedom: int) -> Tensor:
    """``(D, D)`` of ``(n, D)``, shrunk."""
    found, dim = away.T @ away / max(freedom, 1), away.shape[1]
    scale = found.trace().clamp_min(_FLOOR) / dim
    return (1 - _SHRINK) * found + _SHRINK * scale * torch.eye(dim, dtype=found.dtype)
