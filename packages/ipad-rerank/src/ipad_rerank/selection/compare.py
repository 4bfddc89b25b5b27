"""What does each re-ranker bring on my data? One table, tuned and fitted on a part that the table does not report on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
import numpy as np
import torch
from torch import Tensor

from ipad_rerank.files.embeddings import EmbeddingSet, check_same_words
from ipad_rerank.metrics.objectives import REPORTED, joined, label_of, measure_named, per_query
from ipad_rerank.metrics.oracle import oracle_average_precision
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.guard import Guard
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.groups import searches
from ipad_rerank.search.progress import in_words
from ipad_rerank.selection.methods import fitted_reasoners, tuned_peer
from ipad_rerank.selection.table import Comparison, Row

CALIBRATION = 500
"""Queries, at most, that are kept from tuning and fitting for the guard of the best method."""

FEWEST_TO_CALIBRATE = 100
"""Queries below which there is no gate."""

ENOUGH_KEPT = 0.9
"""Share of the gain that a guarded method must keep to be recommended in place of the plain one."""


def split_roles(data: EmbeddingSet, seed: int = 0) -> tuple[EmbeddingSet, EmbeddingSet, EmbeddingSet]:
    """(train, query, gallery) by role, or a random split 5 : 1 : 4 where there are none."""
    if data.roles is not None:
        return data.role("train"), data.role("query"), data.role("gallery")
    if len(data) < 20:
        raise ValueError(f"{len(data)} rows are too few to split; at least 20 are needed")
    order = np.random.default_rng(seed).permutation(len(data))
    half, tenth = len(data) // 2, max(1, len(data) // 10)
    return data.select(order[:half]), data.select(order[half : half + tenth]), data.select(order[half + tenth :])


def compare(
    train: EmbeddingSet,
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    objective: str = "map",
    n_r: int = 500,
    steps: int = 1000,
    seed: int = 0,
    peers: tuple[str, ...] = tuple(RERANKERS),
    verbose: bool = False,
) -> Comparison:
    """Tune the peers and fit Feature Reasoning, alone and beside query expansion, on ``train``; report on the others.

    Recommended is the method that raises the objective most, among those that surely raise it, do not surely lower P@1
    or P@10, and still help where the training vectors are in the gallery too, the largest gallery at hand. It comes with
    a guard that was calibrated on training queries of its own, unless the guard takes too much of the gain. The size of
    that gallery is saved with it, and larger ones are warned of.

    Args:
        train: Labelled vectors; its galleries in tuning are of the report's size as far as it reaches.
        query: Labelled queries.
        gallery: Labelled vectors to search.
        objective: What counts: "map", or precision, recall, hit_rate or ndcg with a k, as in "precision@10".
        n_r: Of Feature Reasoning.
        steps: Of its fit.
        seed: Of all that is random.
        peers: Names of the peers to try.
        verbose: Say on standard error what is being worked on, and for how long about.
    """
    measure_named(objective)
    for part in (query, gallery):
        check_same_words(train, part)
    say = _Teller(len(peers) + 4 if verbose else 0)
    order = np.random.default_rng(seed).permutation(len(train))
    cut = min(CALIBRATION, len(train) // 6)
    cut = cut if cut >= FEWEST_TO_CALIBRATE else 0
    rest = train.select(order[cut:])
    methods: list[tuple[str, Reranker]] = []
    for name in peers:
        say(f"tuning {name}")
        methods.append(tuned_peer(name, rest, len(gallery), seed, objective))
    expansion = next((found for _, found in methods if isinstance(found, AlphaQueryExpansion)), AlphaQueryExpansion())
    say("fitting feature reasoning, alone and behind query expansion")
    options = {"n_r": n_r, "steps": steps, "seed": seed, "verbose": False, "objective": objective}
    reasoner, fitted = fitted_reasoners(rest, expansion, **options)
    methods += fitted
    say(f"searching with {len(methods)} methods")
    report = _Report(query, gallery, objective, seed)
    rows = [report.row("none", None), *(report.row(*method) for method in methods)]
    say("guarding the best, and trying it on the largest gallery")
    largest = _Report(query, _joined(gallery, train), objective, seed)
    asked = train.select(order[:cut]) if cut else None
    trial = _Trial(dict(methods), report, largest, asked, rest.select(slice(0, len(gallery))), objective)
    row, words = _recommend(rows, trial, objective)
    recommended = None if row is None else trial.rerankers[row.name]
    oracle = 100 * float(report.oracle(reasoner.n_r - 1).mean())
    return Comparison(tuple(rows + trial.rows), objective, oracle, reasoner.n_r, words, recommended)


def _recommend(rows: list[Row], trial: _Trial, objective: str) -> tuple[Row | None, str]:
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


class _Trial:
    """Methods with a guard around them, and in the largest gallery at hand.

    Args:
        methods: By the name of their row.
        report: On the queries and gallery of the table.
        largest: On the same queries, the training vectors in the gallery too.
        asked: Queries that calibrate guards; None for guards without a gate.
        pool: What they search.
        objective: What a gain is.
    """

    def __init__(
        self,
        methods: dict[str, Reranker],
        report: _Report,
        largest: _Report,
        asked: EmbeddingSet | None,
        pool: EmbeddingSet,
        objective: str,
    ) -> None:
        self.report, self.largest, self.asked, self.pool, self.objective = report, largest, asked, pool, objective
        self.largest_size = len(largest.gallery)
        self.rerankers = {name: Guard(method, largest_gallery=self.largest_size) for name, method in methods.items()}
        self.rows: list[Row] = []

    def guarded(self, row: Row) -> Row | None:
        """The row of a method's guard."""
        if self.asked is None:
            return None
        vectors = (self.asked.embeddings, self.pool.embeddings)
        known = (self.asked.labels, self.pool.labels, self.asked.group_ids, self.pool.group_ids)
        found = Guard.calibrate(self.rerankers[row.name].reranker, *vectors, *known, objective=self.objective)
        name = f"guarded: {row.name}"
        self.rerankers[name] = Guard(found.reranker, found.gate, self.largest_size, found.blend)
        self.rows.append(self.report.row(name, self.rerankers[name]))
        return self.rows[-1]

    def gain_in_largest(self, row: Row) -> float:
        """In percent."""
        return self.largest.row(row.name, self.rerankers[row.name]).measures[self.objective].gain


def _joined(one: EmbeddingSet, other: EmbeddingSet) -> EmbeddingSet:
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in ("embeddings", "labels", "group_ids")}
    return EmbeddingSet(**{name: np.concatenate(pair) for name, pair in pairs.items() if pair[0] is not None})


class _Report:
    """Methods on the queries that the table reports on."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, objective: str, seed: int) -> None:
        self.query, self.gallery, self.objective, self.seed = query, gallery, objective, seed
        self.names = tuple(dict.fromkeys((objective, *REPORTED)))
        self.relevant = torch.cat([Judge(*labels, None, None, len(labels[0])).total for _, labels in self._searches()])
        start = time.perf_counter()
        self.rankings = [rank(*vectors) for vectors, _ in self._searches()]
        self.seconds = time.perf_counter() - start
        found = zip(self.rankings, self._searches(), strict=True)
        self.before = joined([per_query(self.names, ranking, *labels) for ranking, (_, labels) in found])

    def row(self, name: str, method: Reranker | None) -> Row:
        """The method's row; without one that of the search."""
        if method is None:
            return Row.of(name, self.before, self.before, self.relevant, self.objective, self.seconds, self.seed)
        options = {"on_unfamiliar": "warn"} if getattr(method, "looks_at_density", False) else {}
        parts, seconds = [], 0.0
        for ranking, (vectors, labels) in zip(self.rankings, self._searches(), strict=True):
            start = time.perf_counter()
            found = method.rerank(*vectors, ranking, **options)
            seconds += time.perf_counter() - start
            parts.append(per_query(self.names, found, *labels))
        return Row.of(name, self.before, joined(parts), self.relevant, self.objective, seconds, self.seed)

    def oracle(self, head: int) -> Tensor:
        """``(Q,)`` AP if the first ``head`` were in perfect order."""
        found = zip(self.rankings, self._searches(), strict=True)
        return torch.cat([torch.as_tensor(oracle_average_precision(r, *labels, head)) for r, (_, labels) in found])

    def _searches(self) -> Iterator[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
        """Vectors and labels of queries and gallery, group by group."""
        query, gallery = self.query, self.gallery
        for asked, met in searches(query.group_ids, gallery.group_ids):
            yield (query.embeddings[asked], gallery.embeddings[met]), (query.labels[asked], gallery.labels[met])


class _Teller:
    """Says which of the steps has begun, and how long the rest may take."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.start = steps, 0, time.monotonic()

    def __call__(self, what: str) -> None:
        if not self.steps:
            return
        self.done += 1
        passed = time.monotonic() - self.start
        left = f", {in_words(passed)} so far" if self.done > 1 else ""
        click.echo(f"[{self.done}/{self.steps}] {what}{left}", err=True)
