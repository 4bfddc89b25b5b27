"""Which entries of a ranking are relevant, in chunks of queries.

An entry is relevant where its label equals the query's. With groups, a query only meets gallery entries of its own
group: the others are taken out of its list (they do not count as a position). A query's relevant items are counted
over the whole gallery, found or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ipad_rerank.search.labels import UNLABELLED, as_labels, check_groups, check_same_kind, pair_ids
from ipad_rerank.search.memory import batches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, in_kind, one_of, positive_int

NoRelevant = Literal["zero", "skip"]


@dataclass(frozen=True)
class Judged:
    """Some queries' ranked lists, judged.

    Args:
        relevant: ``(B, k)`` bool; entries of other groups are never relevant.
        position: ``(B, k)`` float64, 1-based place within the query's own group; an entry of another group has the
            place of the entry before it.
        total: ``(B,)`` float64, relevant items in the whole gallery.
    """

    relevant: Tensor
    position: Tensor
    total: Tensor

    @classmethod
    def of_one_group(cls, relevant: Tensor, total: Tensor) -> Judged:
        """Lists in which every entry is of the query's group."""
        place = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64, device=relevant.device)
        return cls(relevant, place.expand(relevant.shape), total)

    def within(self, at: int) -> Tensor:
        """``(B, k)`` bool: relevant and among the first ``at`` places."""
        return self.relevant & (self.position <= at)

    def head(self, at: int) -> Judged:
        """The same, cut behind the last column that any query has among its first ``at`` places."""
        rows = self.position[:1] if self.position.stride(0) == 0 else self.position  # places rise along a row
        ends = torch.searchsorted(rows, rows.new_full((len(rows), 1), at), right=True)
        width = int(ends.max()) if self.position.numel() else 0
        return Judged(self.relevant[:, :width], self.position[:, :width], self.total)


Measure: TypeAlias = Callable[[Judged], Tensor]
"""Judged lists of B queries to ``(B,)`` values between 0 and 1."""


class Judge:
    """Checks labels once and judges rankings in chunks; an unlabelled query or item (None) has nothing relevant.

    Raises:
        ValueError: lengths that differ, one of the two group arguments alone.
        TypeError: labels that are words on one side and numbers on the other.
    """

    def __init__(
        self,
        num_queries: int,
        num_gallery: int | None,
        query_labels: ArrayLike,
        gallery_labels: ArrayLike,
        query_groups: ArrayLike | None = None,
        gallery_groups: ArrayLike | None = None,
    ) -> None:
        check_groups(query_groups, gallery_groups)
        check_same_kind(query_labels, "query_labels", gallery_labels, "gallery_labels")
        queries = as_labels(query_labels, "query_labels", num_queries, "query")
        num_gallery = len(gallery_labels) if num_gallery is None else num_gallery
        items = as_labels(gallery_labels, "gallery_labels", num_gallery, "gallery")
        labels = torch.cat([queries, items])
        self.query_groups = self.gallery_groups = None
        if query_groups is None:
            classes = labels.unique(return_inverse=True)[1]
        else:
            self.query_groups = as_labels(query_groups, "query_groups", num_queries, "query")
            self.gallery_groups = as_labels(gallery_groups, "gallery_groups", num_gallery, "gallery")
            classes = pair_ids(torch.cat([self.query_groups, self.gallery_groups]), labels)
        # Equal class = same label of the same group. What has no label equals nothing, not even what has none either.
        queries = torch.where(queries != UNLABELLED, classes[:num_queries], -1)
        items = torch.where(items != UNLABELLED, classes[num_queries:], -2)
        self.query_classes, self.gallery_classes = queries, items
        counts = torch.bincount(items[items >= 0], minlength=len(labels))
        self.total = torch.where(queries >= 0, counts[queries.clamp_min(0)], 0).double()

    def __len__(self) -> int:
        return len(self.query_classes)

    def measured(
        self, measures: Mapping[str, Measure], ranking: Ranking, no_relevant: NoRelevant = "zero"
    ) -> dict[str, Tensor]:
        """``(Q,)`` float64 values of each measure by name, in one pass over ``ranking``, on its device.

        Raises:
            ValueError: an index beyond the gallery, another number of queries.
        """
        ranking.check_gallery(len(self), len(self.gallery_classes))
        indices, _ = ranking.tensors()
        values = {name: torch.empty(len(self), dtype=torch.float64, device=indices.device) for name in measures}
        for rows in batches(len(self), 64 * ranking.k, indices.device):
            judged = self._judge(indices[rows], rows)
            for name, measure in measures.items():
                values[name][rows] = without_relevant(measure(judged), judged.total, no_relevant)
        return values

    def _judge(self, indices: Tensor, rows: slice) -> Judged:
        device = indices.device
        relevant = self.gallery_classes.to(device)[indices] == self.query_classes[rows].to(device)[:, None]
        total = self.total[rows].to(device)
        if self.gallery_groups is None:
            return Judged.of_one_group(relevant, total)
        same = self.gallery_groups.to(device)[indices] == self.query_groups[rows].to(device)[:, None]
        return Judged(relevant, same.cumsum(1, dtype=torch.float64), total)


def measure(ranking: Ranking, of: Measure, *labels: ArrayLike | None, no_relevant: NoRelevant = "zero") -> Array:
    """``(Q,)`` values of one measure, of the ranking's kind; labels are those of ``average_precision``."""
    judge = Judge(len(ranking), None, *labels)
    return in_kind(judge.measured({"": of}, ranking, no_relevant)[""], ranking.indices)


def cutoff(at: int | None, ranking: Ranking) -> int:
    """``at`` checked, or the length of the lists."""
    return ranking.k if at is None else positive_int(at, "at")


def without_relevant(values: Tensor, total: Tensor, no_relevant: str) -> Tensor:
    """Value of queries that have nothing to find: 0 ("zero"), or NaN, which averages leave out ("skip")."""
    other = 0.0 if one_of(get_args(NoRelevant), no_relevant, "no_relevant") == "zero" else float("nan")
    return torch.where(total > 0, values, other)
