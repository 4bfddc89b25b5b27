"""Rounds in which some classes of a gallery are thinned out, and their queries ask again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import rank
from ipad_rerank.rerankers.guard.thinning import QUERIES, TIMES, thinned
from ipad_rerank.rerankers.labelled import labelled_searches

SIZES = (120, 60, 30, 12, 8, 4, 3, 2)
CAN = range(6)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(8), SIZES))
    asked = rng.permutation(np.arange(160) % 9)  # of class 8 there is nothing in the gallery
    centers = 2 * rng.normal(size=(9, 6))
    return (centers[asked] + rng.normal(size=(160, 6)), centers[labels] + rng.normal(size=(239, 6)), asked, labels)


def sizes_of(search):
    return np.bincount(search.labels[1], minlength=8).tolist()


def test_a_round_thins_a_few_classes_and_leaves_the_others(data):
    query, gallery, asked, _ = data
    rounds, thin, count = list(thinned(list(labelled_searches(*data)), seed=0)), [], 0
    for galleries, searches in rounds:
        (search,) = searches
        assert galleries == searches
        sizes, rows = sizes_of(search), search.query_rows
        changed = {name for name in range(8) if sizes[name] != SIZES[name]}
        assert len(changed) == 1, "a fifth of six"
        assert all(2 <= sizes[name] <= SIZES[name] // 2 for name in changed)
        assert set(asked[rows]) == changed
        assert len(rows) == len(set(rows)) == min(QUERIES, np.isin(asked, list(changed)).sum())
        np.testing.assert_array_equal(search.labels[0], asked[rows])
        np.testing.assert_array_equal(search.asked.query, query[rows])
        assert search.relevant.tolist() == [sizes[name] for name in asked[rows]]
        expected = rank(query[rows], search.asked.gallery)
        np.testing.assert_array_equal(search.asked.ranking.indices, expected.indices)
        thin, count = thin + sorted(changed), count + len(rows)
    kept = {tuple(row) for row in rounds[0].searches[0].asked.gallery}
    assert kept < {tuple(row) for row in gallery}
    assert set(thin[:6]) == set(CAN), "all take their turn before one has another"
    assert TIMES * 160 <= count < TIMES * 160 + QUERIES, "about so many times as many queries as there are"
    assert len({sizes_of(turn.searches[0])[0] for turn in rounds} - {120}) > 1, "to different sizes"


def test_rounds_depend_on_the_seed_alone(data):
    one, same, other = (list(thinned(list(labelled_searches(*data)), seed)) for seed in (0, 0, 1))
    for first, second in zip(one, same, strict=True):
        np.testing.assert_array_equal(first.searches[0].asked.gallery, second.searches[0].asked.gallery)
        np.testing.assert_array_equal(first.searches[0].query_rows, second.searches[0].query_rows)
    assert [sizes_of(turn.searches[0]) for turn in one] != [sizes_of(turn.searches[0]) for turn in other]


def test_groups_are_thinned_by_themselves(data):
    _, _, asked, labels = data
    groups, gallery_groups = np.arange(160) % 2, np.arange(239) % 2
    parts = list(labelled_searches(*data, groups, gallery_groups))
    order = np.concatenate([part.query_rows for part in parts])
    left_alone = 0
    for galleries, searches in thinned(parts, seed=0):
        assert len(galleries) == 2
        left_alone += sum(one is other for one, other in zip(parts, galleries, strict=True))
        for number, search in enumerate(galleries):
            if search is parts[number]:
                assert search not in searches
                continue
            rows = order[search.query_rows]
            assert set(groups[rows]) == {number}
            np.testing.assert_array_equal(search.labels[0], asked[rows])
            sizes, whole = (np.bincount(v, minlength=8) for v in (search.labels[1], labels[gallery_groups == number]))
            assert bool((sizes <= whole).all())
            assert set(np.flatnonzero(sizes < whole)) == set(asked[rows])
    assert left_alone > 0


@pytest.mark.parametrize("labels", [np.repeat(np.arange(10), 3), [None] * 30, np.zeros(30, dtype=int) + 5])
def test_nothing_to_thin(labels):
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    asked = np.arange(4)  # the last gallery is of one class, which nobody asks for
    assert not list(thinned(list(labelled_searches(vectors[:4], vectors, asked, labels)), seed=0))
