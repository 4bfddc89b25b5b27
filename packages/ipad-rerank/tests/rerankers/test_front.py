"""Near-duplicates of a query stay in front; equal vectors get equal scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import AverageQueryExpansion, Chain, FeatureReasoning, rank
from ipad_rerank.rerankers.feature_reasoning.refiner import share_among_equals
from ipad_rerank.rerankers.shortlist import near_duplicates


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=150)
    gallery = (rng.normal(size=(4, 12))[labels] + rng.normal(size=(150, 12))).astype(np.float32)
    query = gallery[:9] + 0.0
    gallery[20:29] = query  # an exact copy of each, beside itself
    gallery[40:43] = query[:3] + 0.02 * rng.normal(size=(3, 12))  # nearly a copy
    return query, gallery


@pytest.mark.parametrize("kind", ["reasoner", "chain", "expansion"])
def test_copies_come_first_and_near_ones_after_them(data, shaken, kind):
    query, gallery = data
    reasoner = shaken(scale=1.0)
    step = {
        "reasoner": reasoner,
        "chain": Chain(reasoner, AverageQueryExpansion(k=30), reasoner),
        "expansion": Chain(AverageQueryExpansion(k=30)),
    }[kind]
    ranking = rank(query, gallery, k=60)
    copies = {row: {row, row + 20} for row in range(9)}
    expected = [copies[row] for row in range(9)]
    columns = step.rerank_candidates(query, gallery[ranking.indices]).indices
    for found in (step.rerank(query, gallery, ranking).indices, np.take_along_axis(ranking.indices, columns, axis=1)):
        assert [set(row[:2].tolist()) for row in found] == expected
        assert [int(row[2]) for row in found[:3]] == [40, 41, 42]
        assert all(len(set(row.tolist())) == 60 for row in found)


@pytest.mark.parametrize("kind", ["numpy", "own galleries"])
def test_equal_vectors_on_both_sides_of_the_heads_border_keep_place_and_score(shaken, kind):
    rng = np.random.default_rng(2)
    query, gallery = (rng.normal(size=(count, 8)).astype(np.float32) for count in (6, 60))
    reasoner, before = shaken(scale=1.0), rank(query, gallery, k=40)
    head = reasoner.n_r - 1
    for row in range(6):  # the last of the head and the first two behind it become one vector, for each query by turns
        twins = before.indices[row, head - 1 : head + 2]
        changed = gallery.copy()
        changed[twins] = gallery[twins[0]]
        ranking = rank(query[row : row + 1], changed, k=40)
        if kind == "numpy":
            found = reasoner.rerank(query[row : row + 1], changed, ranking)
            indices = found.indices[0]
        else:
            found = reasoner.rerank_candidates(query[row : row + 1], changed[ranking.indices])
            indices = ranking.indices[0][found.indices[0]]
        scores = dict(zip(indices.tolist(), found.scores[0].tolist(), strict=True))
        assert len({scores[twin] for twin in twins.tolist()}) == 1
        assert indices[head - 1 :].tolist() == ranking.indices[0, head - 1 :].tolist()
        assert set(indices[: head - 1]) == set(ranking.indices[0, : head - 1])
        assert indices[: head - 1].tolist() != ranking.indices[0, : head - 1].tolist()


def test_only_exceptions_are_near_duplicates():
    torch.manual_seed(0)
    tight = 1 - 1e-3 * torch.linspace(1, 2, 30)  # a dense class: alike, not copies
    near = near_duplicates(torch.stack([tight, torch.cat([torch.tensor([1.0, 0.99]), torch.linspace(0.7, 0.1, 28)])]))
    assert near.sum(1).tolist() == [0, 2]
    assert near_duplicates(torch.ones(1, 4)).all()


def test_equal_vectors_get_the_mean_of_their_scores():
    rng = np.random.default_rng(1)
    candidates = torch.from_numpy(rng.normal(size=(3, 12, 5)))
    for row in range(3):
        candidates[row, [2, 5, 9]] = candidates[row, 2].clone()
        candidates[row, [0, 11]] = candidates[row, 0].clone()
    scores, cosine = torch.from_numpy(rng.normal(size=(3, 12))), candidates[:, :, 0]
    expected = scores.clone()
    for group in ([2, 5, 9], [0, 11]):
        expected[:, group] = scores[:, group].mean(1, keepdim=True)
    torch.testing.assert_close(share_among_equals(scores, cosine, candidates), expected)


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_reasoner_scores_equal_vectors_equally(data, shaken, sequences):
    query, gallery = data
    gallery[60:66] = gallery[100]
    ranking = rank(query, gallery)
    found = shaken(sequences=sequences).rerank(query, gallery, ranking)
    for row in range(9):
        where = np.flatnonzero(np.isin(found.indices[row], [*range(60, 66), 100]))
        inside = where[where < 19 * sequences]
        assert len(np.unique(found.scores[row, inside])) <= 1
        same = found.indices[row, inside]
        np.testing.assert_array_equal(same, np.sort(same))


def test_blend_mixes_refined_and_first_cosines(search, shaken):
    query, gallery, ranking = search
    pure, none, half = (shaken(blend=blend) for blend in (1.0, 0.0, 0.5))
    np.testing.assert_array_equal(none.rerank(*search).indices, ranking.indices)
    by_item = [
        dict(zip(found.indices[0].tolist(), found.scores[0].tolist(), strict=True))
        for found in (
            pure.rerank(query, gallery, ranking.top(19)),
            ranking.top(19),
            half.rerank(query, gallery, ranking.top(19)),
        )
    ]
    for item, value in by_item[2].items():
        assert value == pytest.approx((by_item[0][item] + by_item[1][item]) / 2, abs=1e-5)
    with pytest.raises(ValueError, match="blend must be within"):
        FeatureReasoning(blend=1.5)
