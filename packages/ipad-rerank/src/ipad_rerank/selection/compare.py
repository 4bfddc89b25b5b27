"""What does each re-ranker bring on my data? One table, tuned and fitted on a part that the table does not report on."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from ipad_rerank.files.embeddings import EmbeddingSet, check_same_words
from ipad_rerank.metrics.objectives import measure_named
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning, NoGainWarning
from ipad_rerank.rerankers.plain import PlainReranker
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.search.labels import UNLABELLED
from ipad_rerank.search.progress import in_words
from ipad_rerank.search.vectors import one_of
from ipad_rerank.selection.recommendation import Trial, recommended_of
from ipad_rerank.selection.table import Comparison, Report
from ipad_rerank.selection.tune import tune

CALIBRATION = 1000
"""Queries, at most, that are kept from tuning and fitting for the guards of the best methods."""

WORK = (6, 2, 8)
"""About how much work it is to fit, to search with all methods and to guard the best, beside tuning a peer."""

FEWEST_TO_CALIBRATE = 100
"""Queries below which there is no gate."""

MOST_TO_AVERAGE = 50
"""Candidates that an expansion behind Feature Reasoning takes; fewer where query expansion was tuned to fewer."""


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

    Raises:
        ValueError: an unknown objective or peer; a part without labels; parts of different width, or some with groups and
            some without.
        TypeError: labels or groups that are words in one part and numbers in another.
    """
    measure_named(objective)
    _check_parts(train, query, gallery)
    for name in peers:
        one_of(RERANKERS, name, "peers")
    say = _Teller([*(1 for _ in peers), *WORK], silent=not verbose)
    asked, weights, rest = _calibration(train, seed)
    methods: list[tuple[str, Reranker]] = []
    for name in peers:
        say(f"tuning {name}")
        methods.append(_tuned_peer(name, rest, len(gallery), seed=seed, objective=objective))
    expansion = next((found for _, found in methods if isinstance(found, AlphaQueryExpansion)), AlphaQueryExpansion())
    say("fitting feature reasoning, alone and behind query expansion")
    options = {"n_r": n_r, "steps": steps, "seed": seed, "verbose": False, "objective": objective}
    reasoner, fitted = _fitted_reasoners(rest, expansion, **options)
    methods += fitted
    say(f"searching with {len(methods)} methods")
    report = Report(query, gallery, objective, seed)
    rows = [report.row("none", None), *(report.row(*method) for method in methods)]
    say("guarding the best, and trying it on the largest gallery")
    largest = Report(query, _joined(gallery, train), objective, seed)
    calibration = None if asked is None else (asked, weights, rest.select(slice(0, len(gallery))))
    trial = Trial(dict(methods), report, largest, calibration)
    row, words = recommended_of(rows, trial, objective)
    recommended = None if row is None else trial.rerankers[row.name]
    oracle = 100 * float(report.oracle(reasoner.n_r - 1).mean())
    return Comparison(tuple(rows + trial.rows), objective, oracle, reasoner.n_r, words, recommended)


def _check_parts(train: EmbeddingSet, *others: EmbeddingSet) -> None:
    """All that would fail after minutes of work otherwise."""
    for name, part in zip(("train", "query", "gallery"), (train, *others), strict=True):
        if part.labels is None:
            raise ValueError(f"{name} has no labels")
        if part.embeddings.shape[1] != train.embeddings.shape[1]:
            width = part.embeddings.shape[1]
            raise ValueError(
                f"{name} has {width} dimensions, train has {train.embeddings.shape[1]}; they must be equal"
            )
        if (part.group_ids is None) != (train.group_ids is None):
            raise ValueError(f"group_ids are known of train or {name} only; all parts need them, or none")
        check_same_words(train, part)
    query, gallery = others
    if query.group_ids is not None and not np.isin(query.group_ids, gallery.group_ids).any():
        raise ValueError("query and gallery have no group in common, so that no query has anything to search")


def _tuned_peer(name: str, train: EmbeddingSet, gallery_size: int, **options: Any) -> tuple[str, PlainReranker]:
    """A peer with its best parameters for up to 300 of the training vectors in a gallery of the others."""
    order = np.random.default_rng(options["seed"]).permutation(len(train))
    cut = max(1, min(300, len(train) // 5))
    asked, pool = train.select(order[:cut]), train.select(order[cut : cut + gallery_size])
    vectors = (asked.embeddings, pool.embeddings, asked.labels, pool.labels)
    groups = {"query_groups": asked.group_ids, "gallery_groups": pool.group_ids}
    found = tune(name, *vectors, **groups, max_queries=150, **options).reranker
    return _describe(name, found), found


def _fitted_reasoners(
    train: EmbeddingSet, expansion: AlphaQueryExpansion, **options: Any
) -> tuple[FeatureReasoning, list[tuple[str, Reranker]]]:
    """Feature Reasoning by itself, and the ways to use it, with names."""
    arguments = (train.embeddings, train.labels, train.group_ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        reasoner = FeatureReasoning.fit(*arguments, **options)
        name = f"feature reasoning (n_r={reasoner.n_r}"
        methods: list[tuple[str, Reranker]] = [(f"{name})" + _note(reasoner), reasoner)]
        if not reasoner.is_identity:
            dealt = copy.deepcopy(reasoner)
            dealt.sequences = "auto"
            again = AverageQueryExpansion(k=min(expansion.k, MOST_TO_AVERAGE))
            twice = f"feature reasoning, expansion, feature reasoning (k={again.k}"
            methods += [
                (f'{name}, sequences="auto")', dealt),
                (f"feature reasoning, then expansion (k={again.k})", Chain(reasoner, again)),
                (f"{twice})", Chain(reasoner, again, reasoner)),
                (f'{twice}, sequences="auto")', Chain(dealt, again, dealt)),
            ]
        chain = Chain(expansion, FeatureReasoning(n_r=options["n_r"])).fit(*arguments, **options)
    settings = _describe("expansion, then feature reasoning", expansion)
    return reasoner, [*methods, (settings + _note(chain.rerankers[-1]), chain)]


def _describe(name: str, method: PlainReranker) -> str:
    settings = ", ".join(f"{key}={getattr(method, key):g}" for key in method.grid)
    return f"{name} ({settings})" if settings else name


def _note(reasoner: FeatureReasoning) -> str:
    return " (no gain: identity)" if reasoner.is_identity else ""


def _calibration(train: EmbeddingSet, seed: int) -> tuple[EmbeddingSet | None, np.ndarray, EmbeddingSet]:
    """Queries to calibrate guards with (None where the rows are few), how much each counts, and the other rows.

    A row is drawn with a probability that falls with the square root of its class's size: few queries are of small
    classes, and a guard has to know these. The weights make up for it.
    """
    rng = np.random.default_rng(seed)
    classes = train.labels if train.group_ids is None else np.stack([train.group_ids, train.labels])
    _, places, sizes = np.unique(classes, axis=-1, return_inverse=True, return_counts=True)
    sizes = sizes[places.reshape(-1)]
    finds = (sizes > 1) & (train.labels != UNLABELLED)  # the only one of its class would find nothing, nor one of none
    chance = np.where(finds, sizes**-0.5, 0.0)
    count = min(CALIBRATION, len(train) // 6, np.count_nonzero(chance))
    count = count if count >= FEWEST_TO_CALIBRATE else 0
    drawn = rng.choice(len(train), count, replace=False, p=chance / chance.sum()) if count else np.arange(0)
    rest = rng.permutation(np.setdiff1d(np.arange(len(train)), drawn))
    return train.select(drawn) if count else None, sizes[drawn] ** 0.5, train.select(rest)


def _joined(one: EmbeddingSet, other: EmbeddingSet) -> EmbeddingSet:
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in ("embeddings", "labels", "group_ids")}
    return EmbeddingSet(**{name: np.concatenate(pair) for name, pair in pairs.items() if pair[0] is not None})


class _Teller:
    """Says which step has begun, and how long the rest may take, going by the steps before it.

    Args:
        work: How much work each step is, in any unit.
        silent: Say nothing.
    """

    def __init__(self, work: Sequence[float], silent: bool) -> None:
        self.work, self.silent, self.done, self.start = work, silent, 0, time.monotonic()

    def __call__(self, what: str) -> None:
        before, after = sum(self.work[: self.done]), sum(self.work[self.done :])
        left = f", about {in_words((time.monotonic() - self.start) / before * after)} left" if before else ""
        self.done += 1
        if not self.silent:
            click.echo(f"[{self.done}/{len(self.work)}] {what}{left}", err=True)
