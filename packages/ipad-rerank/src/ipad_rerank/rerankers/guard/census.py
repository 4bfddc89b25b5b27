"""How many items of its own class a query may find, guessed from labelled vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ipad_rerank.rerankers.labelled import LabelledSearch
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Tensors

MEMBERS = 20
"""Vectors of a class that are kept, at most: with more of large classes than of small ones, small ones are noticed less."""

MOST = 20_000
"""Vectors that are kept of all classes together, about: fewer of each where there are many classes."""

NEAREST = 3
"""A query is as similar to a class as to this many of its members, the nearest ones, on average."""

_TEMPERATURES = (0.05, 0.2)
_SMALL = (10, 50)


@dataclass(frozen=True, eq=False)
class Census:
    """Labelled vectors, and how large a part of a gallery each of their classes is.

    A query is divided among the classes in proportion to ``exp(similarity / temperature)``. All classes count alike,
    however large they are: it is the small ones that are to be noticed.

    Args:
        vectors: ``(P, D)`` unit vectors, class after class.
        counts: ``(C,)`` how many of them are of each class.
        shares: ``(C,)`` of the gallery's rows that are of the class.
        gallery_size: Rows of that gallery; taken where the size of another one is not known.
    """

    vectors: Tensor
    counts: Tensor
    shares: Tensor
    gallery_size: int

    @classmethod
    def of(cls, parts: Sequence[LabelledSearch]) -> Self:
        """Of the labelled galleries that were searched."""
        found = [part.classes[part.classes >= 0].unique() for part in parts]
        most = max(NEAREST, min(MEMBERS, MOST // max(sum(map(len, found)), 1)))
        vectors, counts, shares = [], [], []
        for part, numbers in zip(parts, found, strict=True):
            for number in numbers:
                rows = (part.classes == number).nonzero()[:, 0]
                vectors.append(part.asked.items.unit(rows[:most], device="cpu"))
                counts.append(len(vectors[-1]))
                shares.append(len(rows) / len(part.classes))
        largest = max(len(part.classes) for part in parts)
        return cls(torch.cat(vectors), torch.tensor(counts), torch.tensor(shares), largest)

    def features(self, asked: Retrieval) -> Tensor:
        """``(Q, 6)`` float64 on the CPU: for each temperature the mean log of the class's size in the gallery asked, and
        the probabilities that it has less than 10 and less than 50 items."""
        size = (self.shares * (asked.gallery_size or self.gallery_size)).double()
        known = torch.stack([size.clamp_min(1).log(), *((size < few).double() for few in _SMALL)], dim=1)  # (C, 3)
        found, counts = [], self.counts.tolist()
        for rows in asked.batches(4 * len(self.vectors)):
            cosine = asked.queries.unit(rows, torch.float32, "cpu") @ self.vectors.T
            nearest = [part.topk(min(NEAREST, part.shape[1])).values.mean(1) for part in cosine.split(counts, dim=1)]
            similarity = torch.stack(nearest, dim=1).double()  # (B, C)
            shares = [(similarity / temperature).softmax(1) @ known for temperature in _TEMPERATURES]
            found.append(torch.cat(shares, dim=1))
        return torch.cat(found)

    def tensors(self) -> Tensors:
        return {"census.vectors": self.vectors, "census.counts": self.counts, "census.shares": self.shares}
