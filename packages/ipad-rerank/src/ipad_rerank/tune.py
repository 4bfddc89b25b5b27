"""Choose a re-ranker's parameters on labelled data."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._arrays import Vectors, as_labels, positive_int
from ipad_rerank._sweep import sweep
from ipad_rerank.metrics import average_precision
from ipad_rerank.ranking import rank
from ipad_rerank.rerankers._registry import RERANKERS

DEFAULT_GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "average_query_expansion": {"k": (1, 2, 5, 10, 20, 50, 100, 200)},
    "alpha_query_expansion": {"k": (5, 10, 20, 50, 100, 200), "alpha": (0, 1, 3, 5)},
    "database_augmentation": {"k": (2, 5, 10, 20, 50, 100), "alpha": (0, 1, 3)},
    "k_reciprocal": {"k1": (10, 20, 50, 100, 200), "k2": (1, 6, 20, 50), "lambda_value": (0.0, 0.1, 0.3, 0.6)},
    "diffusion": {"k": (10, 20, 50, 100), "alpha": (0.8, 0.9, 0.99), "query_neighbors": (5, 10, 20, 50)},
}
"""Wide, because the best setting depends on how many items are relevant to a query: from a handful to hundreds."""


@dataclass(frozen=True)
class TunedResult:
    """What :func:`tune` found.

    Args:
        reranker: The best setting, ready to use.
        table: Every setting with its "map", best first; equal ones in the order of the grid.
        baseline: MAP without re-ranking.
        at_edge: Parameters whose best value is the last one of their grid (at either end): a wider grid may do better.
        queries: How many queries were asked.
    """

    reranker: Any
    table: list[dict[str, float]]
    baseline: float
    at_edge: tuple[str, ...]
    queries: int

    @property
    def map(self) -> float:
        """MAP of the best setting, on the data it was chosen on (so a little flattering)."""
        return self.table[0]["map"]

    @property
    def helps(self) -> bool:
        """Is the best setting better than no re-ranking?"""
        return self.map > self.baseline

    def __str__(self) -> str:
        lines = [f"{self.reranker}", f"MAP {100 * self.baseline:.2f} -> {100 * self.map:.2f} ({self.queries} queries)"]
        if not self.helps:
            lines.append("No setting is better than no re-ranking.")
        if self.at_edge:
            lines.append(f"At the edge of the grid: {', '.join(self.at_edge)}. A wider grid may do better.")
        return "\n".join(lines)


def tune(
    reranker: Any,
    query: Any,
    gallery: Any,
    query_labels: Any,
    gallery_labels: Any,
    grid: Mapping[str, Sequence[float]] | None = None,
    query_groups: Any = None,
    gallery_groups: Any = None,
    *,
    k: int | None = None,
    max_queries: int | None = 300,
    seed: int = 0,
) -> TunedResult:
    """The setting of highest MAP over all queries, among all combinations of ``grid``.

    Use queries and a gallery that are not those you report on, with a gallery of about the size it will be used with:
    the best neighbourhood sizes grow with the number of relevant items.

    Args:
        reranker: A name (``average_query_expansion``, ``alpha_query_expansion``, ``database_augmentation``,
            ``k_reciprocal``, ``diffusion``), or an instance: its other parameters, such as ``restrict_to``, are kept.
        query: ``(Q, D)``.
        gallery: ``(G, D)``.
        query_labels: ``(Q,)`` whole numbers.
        gallery_labels: ``(G,)``.
        grid: Parameter -> values to try; None takes ``DEFAULT_GRIDS``, less the neighbourhoods above the gallery's
            size.
        query_groups: ``(Q,)``, with ``gallery_groups``: each group is a retrieval of its own.
        gallery_groups: ``(G,)``.
        k: Length of the lists that are scored; None for the whole gallery.
        max_queries: A random sample of that many queries is asked; None asks all.
        seed: Of the sample.

    Raises:
        ValueError: an unknown name or parameter, an empty grid, lengths that differ.
    """
    base, name = _base(reranker)
    queries = Vectors(query, "query")
    items = Vectors(gallery, "gallery", dim=queries.dim)
    if (query_groups is None) != (gallery_groups is None):
        raise ValueError("query_groups and gallery_groups go together, one of them is missing")
    labels = as_labels(query_labels, "query_labels", len(queries), "query")
    item_labels = as_labels(gallery_labels, "gallery_labels", len(items), "gallery")
    groups = as_labels(query_groups, "query_groups", len(queries), "query") if query_groups is not None else None
    item_groups = as_labels(gallery_groups, "gallery_groups", len(items), "gallery") if groups is not None else None
    kept = torch.arange(len(queries))
    if max_queries is not None and positive_int(max_queries, "max_queries") < len(queries):
        order = torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed))
        kept = order[:max_queries].sort().values
    settings = _settings(base, name, grid, len(items))
    rerankers = [replace(base, **setting) for setting in settings]
    totals = torch.zeros(len(rerankers) + 1, dtype=torch.float64)
    for own, met in _retrievals(kept, groups, item_groups, len(items)):
        part, pool = _take(queries.array, own), _take(items.array, met)
        ranking = rank(part, pool, k=k)
        known = (labels[own], item_labels[met])
        totals[-1] += float(torch.as_tensor(average_precision(ranking, *known)).sum())
        for place, found in sweep(rerankers, part, pool, ranking):
            totals[place] += float(torch.as_tensor(average_precision(found, *known)).sum())
    means = (totals / len(kept)).tolist()
    order = sorted(range(len(rerankers)), key=lambda place: -means[place])
    table = [settings[place] | {"map": means[place]} for place in order]
    return TunedResult(rerankers[order[0]], table, means[-1], _at_edge(settings, settings[order[0]]), len(kept))


def _base(reranker: Any) -> tuple[Any, str]:
    if isinstance(reranker, str):
        if reranker not in RERANKERS:
            near = difflib.get_close_matches(reranker, RERANKERS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"reranker must be one of {', '.join(RERANKERS)}, got {reranker!r}{hint}")
        return RERANKERS[reranker](), reranker
    for name, cls in RERANKERS.items():
        if reranker is cls:
            return cls(), name
        if type(reranker) is cls:
            return reranker, name
    raise ValueError(f"reranker must be one of {', '.join(RERANKERS)} or an instance of one, got {reranker!r}")


def _settings(base: Any, name: str, grid: Mapping[str, Sequence[float]] | None, gallery: int) -> list[dict[str, Any]]:
    """All combinations, in the order of the grid."""
    if grid is None:
        sizes = ("k", "k1", "k2", "query_neighbors")
        grid = {
            key: [value for value in values if key not in sizes or value < max(gallery, 2)] or values[:1]
            for key, values in DEFAULT_GRIDS[name].items()
        }
    allowed = [field.name for field in fields(base)]
    unknown = [key for key in grid if key not in allowed]
    if unknown:
        raise ValueError(f"grid has unknown parameters {', '.join(unknown)}; {name} has {', '.join(allowed)}")
    empty = [key for key, values in grid.items() if not len(values)]
    if empty or not grid:
        raise ValueError(f"grid must have values for every parameter, got none for {', '.join(empty) or 'any'}")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if name == "k_reciprocal":  # averaging over more neighbours than are looked at is not k-reciprocal encoding
        sensible = [c for c in combinations if c.get("k2", base.k2) <= c.get("k1", base.k1)]
        combinations = sensible or combinations
    return combinations


def _retrievals(
    kept: Tensor, groups: Tensor | None, item_groups: Tensor | None, num_items: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of queries, and of the gallery that they meet."""
    if groups is None:
        yield kept, torch.arange(num_items)
        return
    for group in groups[kept].unique():
        met = (item_groups == group).nonzero()[:, 0]
        if len(met):  # a group that the gallery lacks leaves AP 0
            yield kept[groups[kept] == group], met


def _take(array: Any, rows: Tensor) -> Any:
    return array[rows.to(array.device)] if isinstance(array, Tensor) else array[rows.numpy()]


def _at_edge(settings: list[dict[str, Any]], best: dict[str, Any]) -> tuple[str, ...]:
    """Parameters at an end of their range that could go on: 0 and the least size are natural ends."""
    found = []
    for key, value in best.items():
        values = sorted({setting[key] for setting in settings})
        natural = value == values[0] and value <= 1
        if len(values) > 1 and value in (values[0], values[-1]) and not natural:
            found.append(key)
    return tuple(found)
