"""What does each re-ranker bring on my data? One table, tuned and fitted on a part that the table does not report on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.metrics import average_precision, oracle_average_precision, paired_bootstrap
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.groups import searches
from ipad_rerank.selection.methods import fitted_reasoners, tuned_peers


@dataclass(frozen=True)
class Row:
    """One re-ranker: MAP and its gain over none with a 95 % interval, all in percent, and queries a second."""

    name: str
    map: float
    gain: float
    low: float
    high: float
    queries_per_second: float


@dataclass(frozen=True)
class Comparison:
    """The table, the oracle (the best MAP that any order of the first n_r can reach) and what to use.

    Args:
        rows: No re-ranking first.
        oracle: In percent.
        n_r: Of Feature Reasoning, as fitted.
        recommendation: In words.
        reranker: The recommended one, ready to use; None where nothing helps.
    """

    rows: tuple[Row, ...]
    oracle: float
    n_r: int
    recommendation: str
    reranker: Reranker | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"| {'method':{width}} |   MAP |   gain |  95 % interval   | queries/s |",
            f"|{'-' * (width + 2)}|------:|-------:|:----------------:|----------:|",
        ]
        for row in self.rows:
            interval = "" if row.name == "none" else f"{row.low:+.2f} to {row.high:+.2f}"
            gain = "" if row.name == "none" else f"{row.gain:+.2f}"
            lines.append(
                f"| {row.name:{width}} | {row.map:5.2f} | {gain:>6} | {interval:^16} | {row.queries_per_second:9.0f} |"
            )
        lines += [f"Oracle of the first {self.n_r - 1}: {self.oracle:.2f}", f"Use: {self.recommendation}"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and words, for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {"rows": rows, "oracle": self.oracle, "n_r": self.n_r, "recommendation": self.recommendation}


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
    n_r: int = 500,
    steps: int = 1000,
    seed: int = 0,
    peers: tuple[str, ...] = tuple(RERANKERS),
) -> Comparison:
    """Tune the peers and fit Feature Reasoning, alone and beside query expansion, on ``train``; report on the others.

    Args:
        train: Labelled vectors; its galleries in tuning are of the report's size as far as it reaches.
        query: Labelled queries.
        gallery: Labelled vectors to search.
        n_r: Of Feature Reasoning.
        steps: Of its fit.
        seed: Of all that is random.
        peers: Names of the peers to try.
    """
    methods = tuned_peers(train, len(gallery), peers, seed)
    expansion = next((found for _, found in methods if isinstance(found, AlphaQueryExpansion)), AlphaQueryExpansion())
    reasoner, fitted = fitted_reasoners(train, expansion, n_r=n_r, steps=steps, seed=seed, verbose=False)
    methods += fitted
    before, seconds = _average_precisions(query, gallery, None)
    oracle = float(np.mean(_oracle(query, gallery, reasoner.n_r - 1)))
    rows = [Row("none", 100 * float(before.mean()), 0.0, 0.0, 0.0, len(query) / seconds)]
    for name, method in methods:
        after, seconds = _average_precisions(query, gallery, method)
        gain = paired_bootstrap(before, after, seed=seed)
        rows.append(
            Row(
                name,
                100 * float(after.mean()),
                100 * gain.difference,
                100 * gain.low,
                100 * gain.high,
                len(query) / max(seconds, 1e-9),
            )
        )
    best, words = _recommend(rows)
    return Comparison(tuple(rows), 100 * oracle, reasoner.n_r, words, dict(methods).get(best))


def _recommend(rows: list[Row]) -> tuple[str | None, str]:
    """The name of the method to use, and words."""
    helping = [row for row in rows if row.low > 0]
    if not helping:
        return None, "none; no method raises MAP beyond chance on this data"
    best = max(helping, key=lambda row: row.map)
    words = f"{best.name} ({best.gain:+.2f})"
    fast = [row for row in helping if row.queries_per_second > 4 * best.queries_per_second]
    if fast:
        second = max(fast, key=lambda row: row.map)
        words += f"; where speed counts, {second.name} ({second.gain:+.2f})"
    return best.name, words


def _average_precisions(
    query: EmbeddingSet, gallery: EmbeddingSet, method: Reranker | None
) -> tuple[np.ndarray, float]:
    """AP of every query (0 without relevant items), and the seconds of the re-ranking (of the search for None)."""
    values, seconds = np.zeros(len(query)), 0.0
    for query_rows, gallery_rows in searches(query.group_ids, gallery.group_ids):
        vectors = (query.embeddings[query_rows], gallery.embeddings[gallery_rows])
        start = time.perf_counter()
        ranking = rank(*vectors)
        if method is not None:
            start = time.perf_counter()
            ranking = method.rerank(*vectors, ranking)
        seconds += time.perf_counter() - start
        values[query_rows] = average_precision(ranking, query.labels[query_rows], gallery.labels[gallery_rows])
    return values, seconds


def _oracle(query: EmbeddingSet, gallery: EmbeddingSet, head: int) -> np.ndarray:
    values = np.zeros(len(query))
    for query_rows, gallery_rows in searches(query.group_ids, gallery.group_ids):
        ranking = rank(query.embeddings[query_rows], gallery.embeddings[gallery_rows])
        values[query_rows] = oracle_average_precision(
            ranking, query.labels[query_rows], gallery.labels[gallery_rows], head
        )
    return values
