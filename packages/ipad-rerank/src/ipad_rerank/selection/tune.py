"""Choose a re-ranker's parameters on labelled data."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch

from ipad_rerank.metrics.objectives import label_of, measure_named
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.plain import PlainReranker
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.vectors import ArrayLike, pair_of, positive_int


@dataclass(frozen=True)
class TunedResult:
    """What :func:`tune` found.

    Args:
        reranker: The best setting, ready to use.
        table: Every setting with its value, under the objective's name, best first; equal ones in the order of the grid.
        baseline: The value without re-ranking.
        at_edge: Parameters whose best value is the last one of their grid (at either end): a wider grid may do better.
        queries: How many queries were asked.
        objective: What was to be raised.
    """

    reranker: PlainReranker
    table: list[dict[str, float]]
    baseline: float
    at_edge: tuple[str, ...]
    queries: int
    objective: str = "map"

    @property
    def value(self) -> float:
        """The objective at the best setting, on the data it was chosen on (so a little flattering)."""
        return self.table[0][self.objective]

    @property
    def helps(self) -> bool:
        """Is the best setting better than no re-ranking?"""
        return self.value > self.baseline

    def __str__(self) -> str:
        change = f"{100 * self.baseline:.2f} -> {100 * self.value:.2f} ({self.queries} queries)"
        lines = [f"{self.reranker}", f"{label_of(self.objective)} {change}"]
        if not self.helps:
            lines.append("No setting is better than no re-ranking.")
        if self.at_edge:
            lines.append(f"At the edge of the grid: {', '.join(self.at_edge)}. A wider grid may do better.")
        return "\n".join(lines)


def tune(
    reranker: str | type[PlainReranker] | PlainReranker,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    grid: Mapping[str, Sequence[float]] | None = None,
    query_groups: ArrayLike | None = None,
    gallery_groups: ArrayLike | None = None,
    *,
    objective: str = "map",
    k: int | None = None,
    max_queries: int | None = 300,
    seed: int = 0,
    progress: bool | None = None,
) -> TunedResult:
    """The setting of highest mean objective over all queries, among all combinations of ``grid``.

    Use queries and a gallery that are not those you report on, with a gallery of about the size it will be used with:
    the best neighborhood sizes grow with the number of relevant items.

    Args:
        reranker: A name (``average_query_expansion``, ``alpha_query_expansion``, ``database_augmentation``,
            ``k_reciprocal``, ``diffusion``), or an instance: its other parameters, such as ``restrict_to``, are kept.
        query: ``(Q, D)``.
        gallery: ``(G, D)``.
        query_labels: ``(Q,)`` whole numbers or words.
        gallery_labels: ``(G,)``.
        grid: Parameter -> values to try; None takes the class's ``grid``, less the neighborhoods above the gallery's
            size.
        query_groups: ``(Q,)``, with ``gallery_groups``: each group is a retrieval of its own.
        gallery_groups: ``(G,)``.
        objective: What counts: "map", or precision, recall, hit_rate or ndcg with a k, as in "precision@10".
        k: Length of the lists that are scored; None for the whole gallery.
        max_queries: A random sample of that many queries is asked; None asks all.
        seed: Of the sample.
        progress: Show a bar over the settings; by default on a terminal, and a line now and then elsewhere.

    Raises:
        ValueError: an unknown name or parameter, an empty grid, lengths that differ.
    """
    base, name = _base(reranker)
    measure_named(objective)
    queries, items, *_ = pair_of(query, gallery)
    judge = Judge(len(queries), len(items), query_labels, gallery_labels, query_groups, gallery_groups)
    kept = torch.arange(len(queries))
    if max_queries is not None and positive_int(max_queries, "max_queries") < len(queries):
        order = torch.randperm(len(queries), generator=torch.Generator().manual_seed(seed))
        kept = order[:max_queries].sort().values
    settings = _settings(base, name, grid, len(items))
    rerankers = [replace(base, **setting) for setting in settings]
    totals = torch.zeros(len(rerankers) + 1, dtype=torch.float64)
    groups = (None, None) if query_groups is None else (judge.query_groups[kept], judge.gallery_groups)
    known = (judge.query_classes[kept], judge.gallery_classes, *groups)
    for part in labelled_searches(queries.array[kept.numpy()], items.array, *known, k=k):
        totals[-1] += float(part.measure((objective,))[objective].sum())
        swept = type(base).sweep(rerankers, part.asked)
        for place, found in progress_over(swept, f"Tuning {name}", progress, len(rerankers)):
            totals[place] += float(part.measure((objective,), found)[objective].sum())
    means = (totals / len(kept)).tolist()
    order = sorted(range(len(rerankers)), key=lambda place: -means[place])
    table = [settings[place] | {objective: means[place]} for place in order]
    edge = _at_edge(settings, settings[order[0]])
    return TunedResult(rerankers[order[0]], table, means[-1], edge, len(kept), objective)


def _base(reranker: str | type[PlainReranker] | PlainReranker) -> tuple[PlainReranker, str]:
    """An instance, and its name."""
    made = RERANKERS.get(reranker, reranker) if isinstance(reranker, str) else reranker
    made = made() if isinstance(made, type) and issubclass(made, PlainReranker) else made
    if not isinstance(made, PlainReranker):
        near = difflib.get_close_matches(str(reranker), RERANKERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"reranker must be one of {', '.join(RERANKERS)} or a PlainReranker, got {reranker!r}{hint}")
    names = {cls: name for name, cls in RERANKERS.items()}
    return made, names.get(type(made), type(made).__name__)


def _settings(
    base: PlainReranker, name: str, grid: Mapping[str, Sequence[float]] | None, gallery: int
) -> list[dict[str, float]]:
    """All combinations, in the order of the grid; a re-ranker without a grid has one, itself."""
    if grid is None:
        grid = {
            key: [value for value in values if key not in base.sizes or value < max(gallery, 2)] or values[:1]
            for key, values in base.grid.items()
        }
    allowed = [field.name for field in fields(base)]
    unknown = [key for key in grid if key not in allowed]
    if unknown:
        raise ValueError(f"grid has unknown parameters {', '.join(unknown)}; {name} has {', '.join(allowed)}")
    empty = [key for key, values in grid.items() if not len(values)]
    if empty or (not grid and base.grid):
        raise ValueError(f"grid must have values for every parameter, got none for {', '.join(empty) or 'any'}")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [setting for setting in combinations if replace(base, **setting).is_sensible] or combinations


def _at_edge(settings: list[dict[str, float]], best: dict[str, float]) -> tuple[str, ...]:
    """Parameters at an end of their range that could go on: 0 and the least size are natural ends."""
    found = []
    for key, value in best.items():
        values = sorted({setting[key] for setting in settings})
        natural = value == values[0] and value <= 1
        if len(values) > 1 and value in (values[0], values[-1]) and not natural:
            found.append(key)
    return tuple(found)
