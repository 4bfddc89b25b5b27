"""Which entries of a ranking are relevant, in chunks of queries.

An entry is relevant where its label equals the query's. With groups, a query only meets gallery entries of its own
group: the others are taken out of its list (they do not count as a position). A query's relevant items are counted
over the whole gallery, found or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ipad_rerank.search.labels import UNLABELLED, as_labels, check_groups, check_same_kind
from ipad_rerank.search.memory import rows_that_fit, slices
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, positive_int

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

    def within(self, at: int) -> Tensor:
        """``(B, k)`` bool: relevant and among the first ``at`` places."""
        return self.relevant & (self.position <= at)

    def head(self, at: int) -> Judged:
        """The same, cut behind the last column that any query has among its first ``at`` places."""
        width = int((self.position <= at).sum(1).max()) if self.position.numel() else 0
        return Judged(self.relevant[:, :width], self.position[:, :width], self.total)


Measure: TypeAlias = Callable[[Judged], Tensor]
"""Judged lists of B queries to ``(B,)`` values between 0 and 1."""


class Judge:
    """Checks labels once and judges a ranking in chunks; an unlabelled query or item (None) has nothing relevant.

    Raises:
        ValueError: lengths that differ, one of the two group arguments alone, an index beyond the gallery.
        TypeError: labels that are words on one side and numbers on the other.
    """

    def __init__(
        self,
        query_labels: ArrayLike,
        gallery_labels: ArrayLike,
        query_groups: ArrayLike | None,
        gallery_groups: ArrayLike | None,
        num_queries: int,
        num_gallery: int | None = None,
    ) -> None:
        check_groups(query_groups, gallery_groups)
        check_same_kind(query_labels, "query_labels", gallery_labels, "gallery_labels")
        queries = as_labels(query_labels, "query_labels", num_queries, "query")
        num_gallery = len(gallery_labels) if num_gallery is None else num_gallery
        items = as_labels(gallery_labels, "gallery_labels", num_gallery, "gallery")
        self.query_groups = self.gallery_groups = None
        if query_groups is not None:
            self.query_groups = as_labels(query_groups, "query_groups", num_queries, "query")
            self.gallery_groups = as_labels(gallery_groups, "gallery_groups", num_gallery, "gallery")
        queries, items = _joint_ids(queries, items, self.query_groups, self.gallery_groups)
        self.query_classes, self.gallery_classes = queries, items  # equal class = same label of the same group
        counts = torch.bincount(items[items >= 0], minlength=int(queries.max()) + 1 if len(queries) else 0)
        self.total = torch.where(queries >= 0, counts[queries.clamp_min(0)], 0).double()

    def __len__(self) -> int:
        return len(self.query_classes)

    def chunks(self, ranking: Ranking) -> Iterator[tuple[slice, Judged]]:
        """All queries of ``ranking``, a memory-sized slice at a time."""
        ranking.check_gallery(len(self), len(self.gallery_classes))
        indices, _ = ranking.tensors()
        for rows in slices(len(self), rows_that_fit(64 * max(ranking.k, 1), indices.device)):
            yield rows, self._judge(indices[rows], rows)

    def _judge(self, indices: Tensor, rows: slice) -> Judged:
        device = indices.device
        relevant = self.gallery_classes.to(device)[indices] == self.query_classes[rows].to(device)[:, None]
        if self.gallery_groups is None:
            position = torch.arange(1, indices.shape[1] + 1, dtype=torch.float64, device=device).expand(indices.shape)
        else:
            same = self.gallery_groups.to(device)[indices] == self.query_groups[rows].to(device)[:, None]
            position = same.cumsum(1, dtype=torch.float64)
        return Judged(relevant, position, self.total[rows].to(device))


def measured(
    measures: Mapping[str, Measure],
    ranking: Ranking,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    no_relevant: NoRelevant = "zero",
) -> dict[str, Tensor]:
    """``(Q,)`` float64 values of each measure by name, in one pass; arguments are those of ``average_precision``."""
    judge = Judge(query_labels, gallery_labels, query_groups, gallery_groups, len(ranking))
    device = ranking.tensors()[0].device
    values = {name: torch.empty(len(ranking), dtype=torch.float64, device=device) for name in measures}
    for rows, judged in judge.chunks(ranking):
        for name, measure in measures.items():
            values[name][rows] = without_relevant(measure(judged), judged.total, no_relevant)
    return values


def measure(ranking: Ranking, of: Measure, *labels: ArrayLike | None, no_relevant: NoRelevant = "zero") -> Array:
    """``(Q,)`` values of one measure, of the ranking's kind."""
    return in_kind(ranking, measured({"": of}, ranking, *labels, no_relevant=no_relevant)[""])


def cutoff(at: int | None, ranking: Ranking) -> int:
    """``at`` checked, or the length of the lists."""
    return ranking.k if at is None else positive_int(at, "at")


def without_relevant(values: Tensor, total: Tensor, no_relevant: str) -> Tensor:
    """Value of queries that have nothing to find: 0 ("zero"), or NaN, which averages leave out ("skip")."""
    if no_relevant not in ("zero", "skip"):
        raise ValueError(f'no_relevant must be "zero" or "skip", got {no_relevant!r}')
    return torch.where(total > 0, values, 0.0 if no_relevant == "zero" else float("nan"))


def in_kind(ranking: Ranking, values: Tensor) -> Array:
    """Per-query ``values`` as numpy for a numpy ranking, else a tensor on its device."""
    return values if isinstance(ranking.indices, Tensor) else values.cpu().numpy()


def _joint_ids(
    queries: Tensor, items: Tensor, query_groups: Tensor | None, gallery_groups: Tensor | None
) -> tuple[Tensor, Tensor]:
    known = torch.cat([queries, items]) != UNLABELLED
    labels = torch.cat([queries, items]).unique(return_inverse=True)[1]
    if query_groups is not None:
        groups = torch.cat([query_groups, gallery_groups]).unique(return_inverse=True)[1]
        span = int(labels.max()) + 1 if len(labels) else 1
        labels = (groups * span + labels).unique(return_inverse=True)[1]
    asked, others = labels[: len(queries)], labels[len(queries) :]
    # What has no label equals nothing, not even what has no label either.
    return torch.where(known[: len(asked)], asked, -1), torch.where(known[len(asked) :], others, -2)
