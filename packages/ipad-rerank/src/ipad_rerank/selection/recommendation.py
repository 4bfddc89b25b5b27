"""Which method to use: the one that surely helps, keeps the head of the list, and holds in larger galleries."""

from __future__ import annotations

import numpy as np

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.metrics.objectives import label_of
from ipad_rerank.rerankers.guard import Guard
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.selection.table import Report, Row

ENOUGH_KEPT = 0.9
"""Share of the gain that a guarded method must keep to be recommended in place of the plain one."""


def recommended_of(rows: list[Row], trial: Trial, objective: str) -> tuple[Row | None, str]:
    """The row of the method to use, and words."""
    name, notes = label_of(objective), ""
    helping = [row for row in rows if row.measures[objective].low > 0]
    helping.sort(key=lambda row: -row.measures[objective].value)
    for plain in helping:
        gain, guarded = plain.measures[objective].gain, trial.guarded(plain)
        enough = ENOUGH_KEPT * gain if plain.keeps_the_head else 0.0
        row = plain
        if guarded is not None and guarded.keeps_the_head and guarded.measures[objective].low > 0:
            row = guarded if guarded.measures[objective].gain >= enough else plain
        if not row.keeps_the_head:
            notes = notes or f"; {plain.name} brings {gain:+.2f} {name}, but lowers the head of the list"
        elif trial.gain_in_largest(row) <= 0:
            notes = (
                notes or f"; {plain.name} brings {gain:+.2f} {name}, but loses in a gallery of {trial.largest_size}"
            )
        else:
            words = f"{row.name} ({row.measures[objective].gain:+.2f} {name})"
            fast = [r for r in helping if r.keeps_the_head and r.queries_per_second > 4 * row.queries_per_second]
            if fast:
                words += f"; where speed counts, {fast[0].name} ({fast[0].measures[objective].gain:+.2f})"
            return row, words + notes
    return None, "none; no method surely helps on this data" + notes


class Trial:
    """Methods with a guard around them, and in the largest gallery at hand.

    Args:
        methods: By the name of their row.
        report: On the queries and gallery of the table.
        largest: On the same queries, the training vectors in the gallery too.
        calibration: Queries that calibrate guards, how much each counts, and what they search; None for guards
            without a gate.
    """

    def __init__(
        self,
        methods: dict[str, Reranker],
        report: Report,
        largest: Report,
        calibration: tuple[EmbeddingSet, np.ndarray, EmbeddingSet] | None,
    ) -> None:
        self.report, self.largest, self.calibration = report, largest, calibration
        self.largest_size = largest.gallery_size
        self.rerankers = {name: Guard(method, largest_gallery=self.largest_size) for name, method in methods.items()}
        self.rows: list[Row] = []

    def guarded(self, row: Row) -> Row | None:
        """The row of a method's guard."""
        if self.calibration is None:
            return None
        asked, weights, pool = self.calibration
        known = (asked.embeddings, pool.embeddings, asked.labels, pool.labels, asked.group_ids, pool.group_ids)
        reranker, objective = self.rerankers[row.name].reranker, self.report.objective
        guard = Guard.calibrate(reranker, *known, objective=objective, weights=weights)
        guard.largest_gallery = self.largest_size
        name = f"guarded: {row.name}"
        self.rerankers[name] = guard
        self.rows.append(self.report.row(name, guard))
        return self.rows[-1]

    def gain_in_largest(self, row: Row) -> float:
        """In percent."""
        return self.largest.row(row.name, self.rerankers[row.name]).measures[self.report.objective].gain
