"""The table of what each re-ranker brings, where Feature Reasoning does help."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ipad_rerank import EmbeddingSet, mean_average_precision, rank
from ipad_rerank.selection.compare import compare

CENTERS = np.random.default_rng(7).normal(size=(5, 16))


def clusters(count: int, seed: int) -> EmbeddingSet:
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=count)
    return EmbeddingSet((CENTERS[labels] + 1.1 * rng.normal(size=(count, 16))).astype(np.float32), labels=labels)


@pytest.fixture(scope="module")
def parts():
    return clusters(1200, 0), clusters(100, 1), clusters(600, 2)


@pytest.fixture(scope="module")
def table(parts):
    return compare(*parts, n_r=60, steps=200, peers=("alpha_query_expansion",))


def test_every_use_of_a_fitted_reasoner_has_a_row(table):
    assert [row.name.split(" (")[0] for row in table.rows] == [
        "none",
        "alpha_query_expansion",
        "feature reasoning",
        "feature reasoning",
        "feature reasoning, then expansion",
        "feature reasoning, expansion, feature reasoning",
        "feature reasoning, expansion, feature reasoning",
        "expansion, then feature reasoning",
    ]
    assert ['sequences="auto"' in row.name for row in table.rows[2:7]] == [False, True, False, False, True]
    assert table.rows[2].low > 0, "Feature Reasoning helps here"


def test_the_recommended_one_is_ready_to_use_and_scores_as_the_table_says(table, parts):
    best = max(table.rows, key=lambda row: row.map)
    assert table.recommendation.startswith(best.name)
    _, query, gallery = parts
    found = table.reranker.rerank(query.embeddings, gallery.embeddings, rank(query.embeddings, gallery.embeddings))
    assert 100 * mean_average_precision(found, query.labels, gallery.labels) == pytest.approx(best.map)


def test_the_expansion_between_two_passes_averages_no_more_than_the_tuned_one(table):
    tuned = int(re.search(r"k=(\d+)", table.rows[1].name).group(1))
    assert all(f"(k={min(tuned, 50)}" in row.name for row in table.rows[4:7])
