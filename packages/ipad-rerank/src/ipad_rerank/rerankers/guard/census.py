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
"""Vectors of a class that are kept, at most."""

NEAREST = 3
"""A query is as similar to a class as to this many of its members, the nearest ones, on average."""

FEATURES = 6
_TEMPERATURES = (0.05, 0.2)
_SMALL = (10, 50)


@dataclass(frozen=True, eq=False)
class Census:
    """Labelled vectors, and how large a part of a gallery each of their classes is.

    A query is divided among the classes in proportion to ``exp(similarity / temperature)``. All classes count alike,
    however large they are: it is the small ones that are to be noticed.

    Args:
        vectors: ``(P, D)`` unit vectors.
        members: ``(C, MEMBERS)`` int64 rows of ``vectors`` by class; -1 where a class has fewer.
        shares: ``(C,)`` of the gallery's rows that are of the class.
        gallery_size: Rows of that gallery; taken where the size of another one is not known.
    """

    vectors: Tensor
    members: Tensor
    shares: Tensor
    gallery_size: int

    @classmethod
    def of(cls, parts: Sequence[LabelledSearch]) -> Self:
        """Of the labelled galleries that were searched."""
        vectors, members, shares, offset = [], [], [], 0
        for part in parts:
            items, classes = part.asked.items, part.classes
            kept = []
            for rows in (classes == number for number in classes[classes >= 0].unique()):
                chosen = rows.nonzero()[:MEMBERS, 0]
                shares.append(float(rows.double().mean()))
                members.append(torch.full((MEMBERS,), -1))
                members[-1][: len(chosen)] = offset + torch.arange(len(chosen))
                offset += len(chosen)
                kept.append(chosen)
            vectors.append(items.take(torch.cat(kept), torch.float32).cpu())
        return cls(
            torch.cat(vectors), torch.stack(members), torch.tensor(shares), max(len(p.asked.items) for p in parts)
        )

    def features(self, asked: Retrieval) -> Tensor:
        """``(Q, 6)`` float64 on the CPU: for each temperature the mean log of the class's size in the gallery asked, and
        the probabilities that it has less than 10 and less than 50 items."""
        size = (self.shares * (asked.gallery_size or self.gallery_size)).double()
        known = torch.stack([size.clamp_min(1).log(), *((size < few).double() for few in _SMALL)], dim=1)  # (C, 3)
        found = torch.empty(len(asked.queries), FEATURES, dtype=torch.float64)
        missing = self.members < 0
        for rows in asked.batches(len(self.vectors) + 3 * self.members.numel()):
            cosine = asked.queries.unit(rows.start, rows.stop, torch.float32, "cpu") @ self.vectors.T
            near = cosine[:, self.members].masked_fill(missing, -torch.inf).topk(NEAREST, dim=2).values  # (B, C, 3)
            there = near > -torch.inf
            similarity = torch.where(there, near, 0).sum(2).double() / there.sum(2)
            shares = [(similarity / temperature).softmax(1) @ known for temperature in _TEMPERATURES]
            found[rows] = torch.cat(shares, dim=1)
        return found

    def tensors(self) -> Tensors:
        return {"census.vectors": self.vectors, "census.members": self.members, "census.shares": self.shares}
