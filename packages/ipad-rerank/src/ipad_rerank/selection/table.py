"""The table of a comparison: one row a re-ranker, each measure with its gain and interval."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.metrics.average_precision import oracle_average_precision
from ipad_rerank.metrics.objectives import HEAD, REPORTED, joined, label_of
from ipad_rerank.metrics.summary import paired_bootstrap
from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.guard.gate import bin_names, bin_of
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.search.ranking import Ranking


@dataclass(frozen=True)
class Gain:
    """A measure's mean and its gain over no re-ranking with a 95 % interval, all in percent."""

    value: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Queries with so many relevant items, how many there are, and the objective's gain there, in percent."""

    relevant: str
    queries: int
    gain: float


@dataclass(frozen=True)
class Row:
    """One re-ranker.

    Args:
        name: Of the method, with its settings.
        measures: By name.
        bins: By the number of relevant items.
        queries_per_second: Of the re-ranking; of the search in the first row.
    """

    name: str
    measures: dict[str, Gain]
    bins: tuple[Bin, ...]
    queries_per_second: float

    @property
    def keeps_the_head(self) -> bool:
        """False where a measure of the head surely falls."""
        return all(gain.high >= 0 for name, gain in self.measures.items() if name in HEAD)

    def cells(self) -> list[str]:
        """As text, for the table."""
        gains = [f"{g.value:.2f} {g.gain:+.2f} ({g.low:+.2f} to {g.high:+.2f})" for g in self.measures.values()]
        if self.name == "none":
            gains = [f"{gain.value:.2f}" for gain in self.measures.values()]
        return [self.name, *gains, f"{self.queries_per_second:.0f}"]


class Report:
    """Methods on the queries that the table reports on, a row each."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, objective: str, seed: int) -> None:
        self.objective, self.seed, self.queries, self.gallery_size = objective, seed, len(query), len(gallery)
        self.names = (objective, *REPORTED)
        labels = (query.labels, gallery.labels, query.group_ids, gallery.group_ids)
        start = time.perf_counter()
        self.parts = list(labelled_searches(query.embeddings, gallery.embeddings, *labels))
        self.seconds = time.perf_counter() - start
        self.relevant = self._all([part.relevant for part in self.parts])
        self.before = self._measured([part.asked.ranking for part in self.parts])

    def row(self, name: str, method: Reranker | None) -> Row:
        """The method's row; without one that of the search."""
        found, seconds = self.before, self.seconds
        if method is not None:
            start = time.perf_counter()
            rankings = [answer_of(method, part.asked) for part in self.parts]
            seconds = time.perf_counter() - start
            found = self._measured(rankings)
        changes = found[self.objective] - self.before[self.objective]
        bins = [(text, changes[bin_of(self.relevant) == number]) for number, text in enumerate(bin_names())]
        return Row(
            name,
            {measure: self._gain(self.before[measure], values) for measure, values in found.items()},
            tuple(Bin(text, len(part), 100 * float(part.mean())) for text, part in bins if len(part)),
            len(changes) / max(seconds, 1e-9),
        )

    def _measured(self, rankings: list[Ranking]) -> dict[str, Tensor]:
        found = joined([part.measure(self.names, each) for part, each in zip(self.parts, rankings, strict=True)])
        return {name: self._all([values]) for name, values in found.items()}

    def _all(self, values: list[Tensor]) -> Tensor:
        """``(Q,)`` from the values of each search; queries of a group that the gallery lacks find nothing, so have 0."""
        found = torch.cat(values)
        return F.pad(found, (0, self.queries - len(found)))

    def _gain(self, before: Tensor, after: Tensor) -> Gain:
        gain = paired_bootstrap(before, after, seed=self.seed)
        return Gain(*(100 * value for value in (float(after.mean()), gain.difference, gain.low, gain.high)))

    def oracle(self, head: int) -> Tensor:
        """``(Q,)`` AP if the first ``head`` were in perfect order."""
        found = [oracle_average_precision(part.asked.ranking, *part.labels, head) for part in self.parts]
        return self._all([torch.as_tensor(values) for values in found])


@dataclass(frozen=True)
class Comparison:
    """The table, the oracle (the best MAP that any order of the first n_r can reach) and what to use.

    Args:
        rows: No re-ranking first.
        objective: The measure by which the best one was chosen.
        oracle: In percent.
        n_r: Of Feature Reasoning, as fitted.
        recommendation: In words.
        reranker: The recommended one, ready to use; None where nothing helps.
    """

    rows: tuple[Row, ...]
    objective: str
    oracle: float
    n_r: int
    recommendation: str
    reranker: Reranker | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        header = ["method", *(f"{label_of(name)}, gain (95 %)" for name in self.rows[0].measures), "queries/s"]
        table = [header, *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        lines = [
            "| " + " | ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)) + " |" for line in table
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        named = [row for row in self.rows[1:] if self.recommendation.startswith(row.name)]
        if named:
            best = max(named, key=lambda row: len(row.name))  # a name may begin with another's
            bins = ", ".join(f"{part.relevant}: {part.gain:+.2f} ({part.queries} queries)" for part in best.bins)
            lines.append(f"Gain in {label_of(self.objective)} by relevant items of the query: {bins}")
        lines += [f"Oracle of the first {self.n_r - 1}: MAP {self.oracle:.2f}", f"Use: {self.recommendation}"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and words, for JSON."""
        names = ("objective", "oracle", "n_r", "recommendation")
        return {"rows": [asdict(row) for row in self.rows]} | {name: getattr(self, name) for name in names}
