"""The table of what each re-ranker brings, where Feature Reasoning does help."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from ipad_rerank import AverageQueryExpansion, EmbeddingSet, Guard, compare, evaluate, rank, retrieval_map
from ipad_rerank.search.labels import UNLABELLED
from ipad_rerank.selection.compare import _calibration
from ipad_rerank.selection.recommendation import recommended_of
from ipad_rerank.selection.table import Bin, Comparison, Gain, Report, Row

module = sys.modules["ipad_rerank.selection.compare"]  # the function of that name hides it
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
    names = [row.name.split(" (")[0] for row in table.rows]
    assert names[:8] == [
        "none",
        "alpha_query_expansion",
        "feature reasoning",
        "feature reasoning",
        "feature reasoning, then expansion",
        "feature reasoning, expansion, feature reasoning",
        "feature reasoning, expansion, feature reasoning",
        "expansion, then feature reasoning",
    ]
    assert names[8:]
    assert all(name.startswith("guarded: ") for name in names[8:])
    assert ['sequences="auto"' in row.name for row in table.rows[2:7]] == [False, True, False, False, True]
    assert table.rows[2].measures["map"].low > 0, "Feature Reasoning helps here"


def test_the_recommended_one_is_ready_to_use_and_scores_as_the_table_says(table, parts):
    best = next(row for row in table.rows if table.recommendation.startswith(row.name))
    _, query, gallery = parts
    assert isinstance(table.reranker, Guard)
    assert table.reranker.largest_gallery == 1800
    assert (table.reranker.gate is not None) == best.name.startswith("guarded")
    found = table.reranker.rerank(query.embeddings, gallery.embeddings, rank(query.embeddings, gallery.embeddings))
    scored = evaluate(found, query.labels, gallery.labels)
    expected = {"map": scored.map, "precision@1": scored.precision[1], "precision@10": scored.precision[10]}
    for name, value in (expected | {"ndcg@10": scored.ndcg[10]}).items():
        assert best.measures[name].value == pytest.approx(100 * value)
        assert best.measures[name].gain == pytest.approx(100 * value - table.rows[0].measures[name].value)


def test_gains_by_relevant_items_add_up(table, parts):
    for row in table.rows:
        assert sum(part.queries for part in row.bins) == 100
        mean = sum(part.queries * part.gain for part in row.bins) / 100
        assert mean == pytest.approx(row.measures["map"].gain)
    assert [part.relevant for part in table.rows[0].bins] == ["50-199"]  # 600 vectors of five classes
    assert "Gain in MAP by relevant items of the query: 50-199" in str(table)


def row(name: str, speed: float = 1.0, **gains: tuple[float, float, float]) -> Row:
    measures = {"map": gains["map"], "precision@1": gains.get("head", (0, -1, 1)), "precision@10": (0, -1, 1)}
    return Row(name, {key: Gain(50 + gain[0], *gain) for key, gain in measures.items()}, (), speed)


class Trial:
    """Stands for guards, and for the report on the largest gallery."""

    largest_size = 9000

    def __init__(self, loses, guards):
        self.loses, self.guards = loses, guards

    def guarded(self, row):
        return self.guards.get(row.name)

    def gain_in_largest(self, row):
        return -1 if row.name in self.loses else 1


SAFE = {"first": row("guarded: first", map=(1, 0.5, 2))}
WEAK = {"second": row("guarded: second", map=(2, 1, 3))}
GOOD = {"second": row("guarded: second", map=(2.9, 1, 4))}


@pytest.mark.parametrize(
    ("loses", "guards", "expected", "words"),
    [
        (
            (),
            {},
            "second",
            r"second \(\+3.00 MAP\); where speed counts, third \(\+2.00\); first brings \+4.00 MAP, but",
        ),
        (("second",), {}, "third", r"third \(\+2.00 MAP\); first brings"),
        (("second", "third"), {}, None, "none; no method surely helps"),
        ((), SAFE, "guarded: first", r"guarded: first \(\+1.00 MAP\); where speed counts, third"),
        ((), WEAK, "second", "second"),
        ((), GOOD, "guarded: second", r"guarded: second \(\+2.90 MAP\)"),
    ],
)
def test_what_is_recommended_keeps_the_head_and_holds_in_larger_galleries(loses, guards, expected, words):
    rows = [
        row("none", map=(0, 0, 0)),
        row("first", map=(4, 3, 5), head=(-3, -5, -1)),
        row("second", map=(3, 2, 4)),
        row("third", speed=9.0, map=(2, 1, 3)),
        row("fourth", map=(9, -1, 19)),
    ]
    best, found = recommended_of(rows, Trial(loses, guards), "map")
    assert (best.name if best else None) == expected
    assert re.match(words, found)


def test_guards_are_calibrated_on_labelled_rows_of_classes_that_are_not_alone(parts):
    train = parts[0]
    labels = np.where(np.arange(len(train)) % 3 == 0, None, train.labels.astype(object))
    labels[1] = 77
    asked, weights, rest = _calibration(EmbeddingSet(train.embeddings, labels=labels), seed=0)
    assert len(asked) == len(weights) == 200
    assert len(rest) == 1000
    assert not np.isin(asked.labels, [UNLABELLED, 77]).any()


def test_queries_of_a_group_that_the_gallery_lacks_find_nothing(parts):
    _, query, gallery = (replace(part, group_ids=np.arange(len(part)) % 2) for part in parts)
    query = replace(query, group_ids=np.arange(100) % 3)
    report = Report(query, gallery, "map", 0)
    row = report.row("expansion", AverageQueryExpansion(k=3))
    expected = retrieval_map(
        query.embeddings,
        gallery.embeddings,
        query.labels,
        gallery.labels,
        *(part.group_ids for part in (query, gallery)),
    )
    np.testing.assert_allclose(report.row("none", None).measures["map"].value, 100 * expected)
    assert sum(part.queries for part in row.bins) == 67
    assert len(report.oracle(10)) == 100


def test_bins_are_those_of_the_recommended_row_where_a_name_begins_with_another_s():
    rows = [
        Row(name, {"map": Gain(0, 0, 0, 0)}, (Bin("1-9", 5, n),), 1.0) for n, name in enumerate(("none", "a", "ab"))
    ]
    assert "1-9: +2.00 (5 queries)" in str(Comparison(tuple(rows), "map", 0.0, 10, "ab (+2.00 MAP)"))
    assert "1-9" not in str(Comparison(tuple(rows), "map", 0.0, 10, "none; no method surely helps on this data"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "gallery has no labels"),
        ({"embeddings": np.ones((600, 3), np.float32)}, "gallery has 3 dimensions, train has 16"),
        ({"group_ids": np.zeros(600, int)}, "group_ids are known of train or gallery only"),
    ],
)
def test_parts_that_do_not_fit_are_found_before_the_work(parts, change, message, monkeypatch):
    monkeypatch.setattr(module, "tune", None)
    train, query, gallery = parts
    with pytest.raises(ValueError, match=message):
        compare(train, query, replace(gallery, **change))
    with pytest.raises(ValueError, match="peers must be one of"):
        compare(train, query, gallery, peers=("diffusion", "difusion"))


def test_queries_and_gallery_without_a_common_group_are_refused(parts):
    train, query, gallery = (replace(part, group_ids=np.full(len(part), number)) for number, part in enumerate(parts))
    with pytest.raises(ValueError, match="query and gallery have no group in common"):
        compare(train, query, gallery)


def test_an_objective_of_one_s_own(parts):
    train, query, gallery = parts
    small = train.select(slice(0, 400))
    table = compare(small, query, gallery, n_r=20, steps=2, peers=("average_query_expansion",), objective="ndcg@5")
    assert list(table.rows[0].measures) == ["ndcg@5", "map", "precision@1", "precision@10", "ndcg@10"]
    assert table.to_dict()["objective"] == "ndcg@5"
    with pytest.raises(ValueError, match='objective must be "map" or one of precision, recall'):
        compare(*parts, objective="mapp")


def test_the_expansion_between_two_passes_averages_no_more_than_the_tuned_one(table):
    tuned = int(re.search(r"k=(\d+)", table.rows[1].name).group(1))
    assert all(f"(k={min(tuned, 50)}" in row.name for row in table.rows[4:7])
