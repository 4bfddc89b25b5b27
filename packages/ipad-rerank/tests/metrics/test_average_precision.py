import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from ipad_rerank import Ranking, rank
from ipad_rerank.metrics import (
    average,
    average_precision,
    mean_average_precision,
    oracle_average_precision,
    oracle_mean_average_precision,
    per_group,
)
from ipad_rerank.metrics.average_precision import average_precision_of
from ipad_rerank.metrics.relevance import Judged


def naive_average_precision(order, label, labels, group, groups, at, denominator):
    """Plain loop over one list, from the definition."""
    places, hits, summed = 0, 0, 0.0
    for item in order:
        if group is not None and groups[item] != group:
            continue
        places += 1
        if places > at:
            break
        if labels[item] == label:
            hits += 1
            summed += hits / places
    total = sum(1 for item, other in enumerate(labels) if other == label and (group is None or groups[item] == group))
    if total == 0:
        return 0.0
    return summed / max({"reachable": min(total, at), "relevant": total, "found": hits}[denominator], 1)


@pytest.fixture
def retrieval():
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(30, 6)), rng.normal(size=(70, 6))
    return {
        "query": query,
        "gallery": gallery,
        "labels": (rng.integers(0, 5, 30), rng.integers(0, 4, 70)),  # label 4 has no relevant item
        "groups": (rng.integers(0, 3, 30), rng.integers(0, 3, 70)),
    }


@pytest.mark.parametrize("denominator", ["reachable", "relevant", "found"])
@pytest.mark.parametrize("at", [None, 1, 7, 1000])
@pytest.mark.parametrize("k", [None, 25])
@pytest.mark.parametrize("grouped", [False, True])
def test_matches_loop(retrieval, grouped, k, at, denominator):
    ranking = rank(retrieval["query"], retrieval["gallery"], k=k)
    (own, items), groups = retrieval["labels"], retrieval["groups"] if grouped else (None, None)
    actual = average_precision(ranking, own, items, *groups, at=at, denominator=denominator)
    expected = [
        naive_average_precision(
            order, own[i], items, groups[0][i] if grouped else None, groups[1], at or ranking.k, denominator
        )
        for i, order in enumerate(ranking.indices)
    ]
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_full_ranking_matches_scikit_learn(retrieval):
    ranking = rank(retrieval["query"], retrieval["gallery"])
    own, items = retrieval["labels"]
    scores = np.zeros((30, 70))
    np.put_along_axis(scores, ranking.indices, ranking.scores, axis=1)
    expected = [
        average_precision_score(items == label, row) if label < 4 else 0
        for label, row in zip(own, scores, strict=True)
    ]
    np.testing.assert_allclose(average_precision(ranking, own, items), expected, atol=1e-12)


def test_hand_numbers():
    ranking = Ranking([[2, 0, 1, 3]], [[0.9, 0.8, 0.7, 0.6]])
    labels = [1, 0, 1, 1]  # ranked: 1 1 0 1
    assert average_precision(ranking, [1], labels)[0] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert average_precision(ranking, [0], labels)[0] == pytest.approx(1 / 3)
    assert average_precision(ranking.top(1), [1], labels)[0] == 1.0
    assert average_precision(ranking.top(1), [1], labels, denominator="relevant")[0] == pytest.approx(1 / 3)
    assert average_precision(ranking, [1], labels, at=2, denominator="found")[0] == 1.0
    assert average_precision(ranking, [0], labels, at=2, denominator="found")[0] == 0.0


def test_other_groups_leave_the_list():
    ranking = Ranking([[0, 1, 2, 3]], [[0.9, 0.8, 0.7, 0.6]])
    labels, groups = [5, 6, 5, 5], [1, 0, 0, 1]
    # Group 0 leaves rows 1 and 2 with labels 6 and 5: the relevant one is second.
    assert average_precision(ranking, [5], labels, [0], groups)[0] == pytest.approx(1 / 2)
    # The same label in another group is not relevant.
    assert average_precision(ranking, [5], labels, [2], groups)[0] == 0.0


def test_query_without_relevant_item():
    ranking = Ranking([[0, 1], [1, 0]], [[0.9, 0.8], [0.9, 0.8]])
    assert mean_average_precision(ranking, [1, 7], [1, 2]) == pytest.approx(0.5)
    assert mean_average_precision(ranking, [1, 7], [1, 2], no_relevant="skip") == pytest.approx(1.0)
    assert np.isnan(average_precision(ranking, [1, 7], [1, 2], no_relevant="skip")[1])
    with pytest.raises(ValueError, match="no query is left"):
        mean_average_precision(ranking, [8, 7], [1, 2], no_relevant="skip")


def test_single_class_is_one():
    ranking = rank(np.eye(4)[:2], np.eye(4))
    assert mean_average_precision(ranking, [3, 3], [3, 3, 3, 3]) == 1.0


def test_ties_count_in_the_order_given():
    gallery = np.tile([[1.0, 0.0]], (4, 1))
    ranking = rank([[1.0, 0.0]], gallery)
    assert average_precision(ranking, [1], [0, 0, 1, 1])[0] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_overall_is_weighted_by_queries_as_published():
    # Per-attribute MAPs that the RPF paper prints, the queries of the FashionAI test split, and its overall 70.11.
    maps = [66.75, 67.86, 59.65, 73.23, 75.72, 73.18, 74.40, 75.01]
    counts = [422, 623, 535, 422, 341, 289, 703, 265]
    values, groups = np.repeat(maps, counts), np.repeat(np.arange(8), counts)
    assert average(values, groups) == pytest.approx(70.114, abs=5e-4)
    assert average(values, groups, weighting="group") == pytest.approx(70.725, abs=5e-4)
    assert per_group(values, groups) == pytest.approx(dict(enumerate(maps)))


def test_weightings():
    values, groups, labels = [1.0, 0.0, 0.0, 0.5], [0, 0, 0, 1], [7, 8, 8, 7]
    assert average(values, groups, labels) == pytest.approx(0.375)
    assert average(values, groups, labels, weighting="group") == pytest.approx((1 / 3 + 0.5) / 2)
    assert average(values, groups, labels, weighting="label") == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert np.isnan(per_group([np.nan, 1.0], [4, 5])[4])


def test_chunks_do_not_matter(retrieval, monkeypatch):
    ranking = rank(retrieval["query"], retrieval["gallery"])
    expected = average_precision(ranking, *retrieval["labels"], *retrieval["groups"])
    monkeypatch.setattr("ipad_rerank.search.memory.work_budget", lambda _: 7 * 64 * 70)
    np.testing.assert_array_equal(average_precision(ranking, *retrieval["labels"], *retrieval["groups"]), expected)


def test_permuting_the_gallery_changes_nothing(retrieval):
    (own, items), shuffle = retrieval["labels"], np.random.default_rng(1).permutation(70)
    before = average_precision(rank(retrieval["query"], retrieval["gallery"]), own, items)
    after = average_precision(rank(retrieval["query"], retrieval["gallery"][shuffle]), own, items[shuffle])
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_torch_in_torch_out(retrieval):
    ranking = rank(torch.from_numpy(retrieval["query"]), torch.from_numpy(retrieval["gallery"]))
    labels = [torch.from_numpy(part) for part in retrieval["labels"]]
    actual = average_precision(ranking, *labels)
    assert isinstance(actual, torch.Tensor)
    expected = average_precision(rank(retrieval["query"], retrieval["gallery"]), *retrieval["labels"])
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_labels_are_read_only(retrieval):
    own, items = (part.copy() for part in retrieval["labels"])
    for part in (own, items):
        part.setflags(write=False)
    average_precision(rank(retrieval["query"], retrieval["gallery"]), own, items)
    np.testing.assert_array_equal(items, retrieval["labels"][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [0, 1]), "query_labels has 1 entries"),
        (([1, 1], [0, 1, 2]), "index 3, gallery has 3 rows"),
        (([1, 1], [0, 1, 2, 3], [0, 0]), "gallery_groups is missing"),
        (([1, 1], [0, 1, 2, 3], [0, 0], [0]), "gallery_groups has 1 entries"),
        (([1.5, 1], [0, 1, 2, 3]), "query_labels must be whole numbers"),
    ],
)
def test_rejects_labels_that_do_not_fit(arguments, message):
    ranking = Ranking([[0, 3], [1, 2]], [[0.9, 0.8], [0.9, 0.8]])
    with pytest.raises(ValueError, match=message):
        average_precision(ranking, *arguments)


@pytest.mark.parametrize(
    "option", [{"denominator": "all"}, {"no_relevant": "drop"}, {"at": 0}, {"weighting": "macro"}]
)
def test_rejects_unknown_options(option):
    ranking = Ranking([[0, 1]], [[0.9, 0.8]])
    with pytest.raises(ValueError, match=next(iter(option))):
        mean_average_precision(ranking, [1], [0, 1], **option)


def test_judged_lists_by_hand_and_as_sums_over_all_places():
    relevant = torch.tensor([[False, True, True, False], [False, False, False, False], [True, True, True, True]])
    total = torch.tensor([2.0, 0.0, 4.0], dtype=torch.float64)
    expected = torch.tensor([(1 / 2 + 2 / 3) / 2, 0.0, 1.0], dtype=torch.float64)
    place = torch.arange(1, 5, dtype=torch.float64).expand(3, -1)
    torch.testing.assert_close(average_precision_of(Judged(relevant, place, total)), expected)
    random = torch.rand(5, 300, generator=torch.Generator().manual_seed(0)) < 0.2
    place = torch.arange(1, 301, dtype=torch.float64).expand(5, -1)
    count = random.sum(1).double()
    summed = torch.where(random, random.cumsum(1) / place, 0.0).sum(1) / count
    for at in (None, 300):
        torch.testing.assert_close(average_precision_of(Judged(random, place, count), at), summed, rtol=0, atol=1e-14)


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    ranking = rank(rng.normal(size=(20, 6)), rng.normal(size=(50, 6)))
    return ranking, rng.integers(0, 4, 20), rng.integers(0, 4, 50), rng.integers(0, 2, 20), rng.integers(0, 2, 50)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n_r", [1, 10, 50, 900])
@pytest.mark.parametrize("at", [None, 5])
def test_oracle_is_the_best_order_of_the_head(small, n_r, at, grouped):
    ranking, own, items, groups, item_groups = small
    arguments = (groups, item_groups) if grouped else (None, None)
    best = ranking.indices.copy()
    for i, row in enumerate(best):
        relevant = items[row[:n_r]] == own[i]
        if grouped:
            relevant &= item_groups[row[:n_r]] == groups[i]
        row[:n_r] = row[:n_r][np.argsort(~relevant, kind="stable")]
    expected = average_precision(Ranking(best, ranking.scores), own, items, *arguments, at=at)
    actual = oracle_average_precision(ranking, own, items, n_r, *arguments, at=at)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_oracle_is_a_ceiling_that_rises_to_one(small):
    ranking, own, items, *_ = small
    before = average_precision(ranking, own, items)
    last = before
    for n_r in (2, 5, 20, 50):
        ceiling = oracle_average_precision(ranking, own, items, n_r)
        assert (ceiling >= last - 1e-12).all()
        last = ceiling
    np.testing.assert_allclose(last, 1.0)
    assert oracle_mean_average_precision(ranking, own, items, 1) == pytest.approx(before.mean())


def test_oracle_rejects_n_r_below_one(small):
    with pytest.raises(ValueError, match="n_r must be at least 1"):
        oracle_average_precision(*small[:3], 0)


def test_where_nothing_has_a_label_nothing_is_found():
    ranking = Ranking([[0, 1], [1, 0]], [[0.9, 0.5], [0.9, 0.5]])
    np.testing.assert_array_equal(average_precision(ranking, [None, None], [None, None]), [0, 0])
    assert np.isnan(average_precision(ranking, [None, None], [None, None], no_relevant="skip")).all()
