"""Measures by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import average_precision, ndcg_at_k, precision_at_k, rank, recall_at_k
from ipad_rerank.metrics.objectives import chosen_blend, is_harmless, label_of, measure_named, measures_named
from ipad_rerank.metrics.relevance import Judge


def test_each_is_the_function_of_its_name():
    rng = np.random.default_rng(0)
    query, gallery, asked, found = (
        rng.normal(size=(9, 4)),
        rng.normal(size=(30, 4)),
        *(rng.integers(3, size=n) for n in (9, 30)),
    )
    ranking = rank(query, gallery, k=20)
    groups = rng.integers(2, size=9), rng.integers(2, size=30)
    measures = measures_named(["map", "precision@3", "recall@7", "ndcg@50"])
    values = Judge(9, None, asked, found, *groups).measured(measures, ranking)
    known = (asked, found)
    expected = {
        "map": average_precision(ranking, *known, *groups),
        "precision@3": precision_at_k(ranking, *known, 3, *groups),
        "recall@7": recall_at_k(ranking, *known, 7, *groups),
        "ndcg@50": ndcg_at_k(ranking, *known, 50, *groups),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value)


def test_labels():
    assert [label_of(name) for name in ("map", "precision@1", "ndcg@10", "hit_rate@5")] == [
        "MAP",
        "P@1",
        "nDCG@10",
        "hit@5",
    ]


@pytest.mark.parametrize("name", ["mapp", "precision", "precision@", "precision@0", "f1@3", None])
def test_other_names(name):
    with pytest.raises(ValueError, match="objective"):
        measure_named(name)


def test_changes_are_harmless_where_they_surely_stay_above_the_tolerance():
    nan = float("nan")
    assert is_harmless(torch.tensor([0.0, 0.0, nan]))
    assert is_harmless(torch.tensor([-0.0049, -0.0049]))
    assert not is_harmless(torch.tensor([-0.0051, -0.0051]))
    # 1,000 queries of deviation 0.1: the standard error is 0.0032, so the mean may be down to -0.0018
    many = torch.tensor([0.0995, -0.0995] * 500)
    assert is_harmless(many - 0.0015)
    assert not is_harmless(many - 0.0022)
    # 10 queries: the standard error is more than the tolerance, and a mean of 0 is asked for
    assert is_harmless(many[:10] + 0.0001)
    assert not is_harmless(many[:10] - 0.0001)
    assert not is_harmless(torch.tensor([-0.9, nan]))
    assert is_harmless(torch.tensor([nan]))


def test_the_blend_chosen_keeps_the_head():
    gains = {
        1.0: {"map": 0.05, "precision@1": -0.1, "precision@10": 0.0},
        0.75: {"map": 0.04, "precision@1": -0.004, "precision@10": 0.0},
        0.5: {"map": 0.0355, "precision@1": 0.0, "precision@10": 0.0},
    }
    assert chosen_blend(gains, "map") == 0.75
    assert chosen_blend({blend: gains[blend] for blend in (1.0, 0.75)}, "precision@10") == 0.75


@pytest.mark.parametrize(
    ("full", "half", "expected"), [(0.05, 0.046, 0.5), (0.05, 0.044, 1.0), (-0.02, -0.03, 1.0), (0.0, 0.0, 0.5)]
)
def test_the_smallest_blend_that_brings_nine_tenths_of_the_gain_is_enough(full, half, expected):
    flat = {"precision@1": 0.0, "precision@10": 0.0}
    assert chosen_blend({1.0: {"map": full} | flat, 0.5: {"map": half} | flat}, "map") == expected


@pytest.mark.parametrize(
    ("full", "quarter", "expected"),
    [
        (-0.011, -0.006, 0.25),  # all lower the head a little: the least harm, whatever MAP says
        (-0.006, -0.019, 1.0),
        (-0.11, -0.021, 0.0),  # a fall of more than two points is never let through
        (-0.03, 0.0, 0.25),
    ],
)
def test_where_every_blend_lowers_the_head_the_one_that_does_so_least_is_taken(full, quarter, expected):
    gains = {
        1.0: {"map": 0.08, "precision@1": full, "precision@10": 0.0},
        0.25: {"map": 0.02, "precision@1": 0.0, "precision@10": quarter},
    }
    assert chosen_blend(gains, "map") == expected
