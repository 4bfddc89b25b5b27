import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from ipad_rerank import Ranking, rank
from ipad_rerank.metrics import evaluate, hit_rate_at_k, mean_average_precision, ndcg_at_k, precision_at_k, recall_at_k


@pytest.fixture
def retrieval():
    rng = np.random.default_rng(0)
    ranking = rank(rng.normal(size=(25, 6)), rng.normal(size=(60, 6)))
    return ranking, rng.integers(0, 4, 25), rng.integers(0, 4, 60), rng.integers(0, 2, 25), rng.integers(0, 2, 60)


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("grouped", [False, True])
def test_match_loops(retrieval, k, grouped):
    ranking, own, items, groups, item_groups = retrieval
    arguments = (groups, item_groups) if grouped else (None, None)
    for i, order in enumerate(ranking.indices):
        listed = [j for j in order if not grouped or item_groups[j] == groups[i]]
        relevant = [items[j] == own[i] for j in listed]
        hits, total = sum(relevant[:k]), sum(relevant)
        assert precision_at_k(ranking, own, items, k, *arguments)[i] == pytest.approx(hits / k)
        assert recall_at_k(ranking, own, items, k, *arguments)[i] == pytest.approx(hits / total)
        assert hit_rate_at_k(ranking, own, items, k, *arguments)[i] == float(hits > 0)
        gain = sum(1 / np.log2(2 + place) for place, hit in enumerate(relevant[:k]) if hit)
        ideal = sum(1 / np.log2(2 + place) for place in range(min(k, total)))
        assert ndcg_at_k(ranking, own, items, k, *arguments)[i] == pytest.approx(gain / ideal)


@pytest.mark.parametrize("k", [1, 10, 60])
def test_ndcg_matches_scikit_learn(retrieval, k):
    ranking, own, items, *_ = retrieval
    scores = np.zeros((25, 60))
    np.put_along_axis(scores, ranking.indices, ranking.scores, axis=1)
    expected = [ndcg_score([items == label], [row], k=k) for label, row in zip(own, scores, strict=True)]
    np.testing.assert_allclose(ndcg_at_k(ranking, own, items, k), expected, atol=1e-12)


def test_hand_numbers():
    ranking = Ranking([[1, 0, 2, 3]], [[0.9, 0.8, 0.7, 0.6]])
    labels = [1, 0, 1, 1]  # ranked: 0 1 1 1
    assert precision_at_k(ranking, [1], labels, 2)[0] == 0.5
    assert recall_at_k(ranking, [1], labels, 2)[0] == pytest.approx(1 / 3)
    assert hit_rate_at_k(ranking, [1], labels, 1)[0] == 0.0
    assert hit_rate_at_k(ranking, [1], labels, 2)[0] == 1.0
    assert ndcg_at_k(ranking, [1], labels, 2)[0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))


@pytest.mark.parametrize("measure", [precision_at_k, recall_at_k, hit_rate_at_k, ndcg_at_k])
def test_nothing_relevant(measure):
    ranking = Ranking([[0, 1]], [[0.9, 0.8]])
    assert measure(ranking, [7], [1, 2], 2)[0] == 0.0
    assert np.isnan(measure(ranking, [7], [1, 2], 2, no_relevant="skip")[0])


def test_recall_counts_what_was_not_fetched():
    ranking = Ranking([[0]], [[0.9]])
    assert recall_at_k(ranking, [1], [1, 1, 1, 1], 10)[0] == 0.25


def test_evaluate_agrees_with_the_single_functions(retrieval):
    ranking, *labels = retrieval
    found = evaluate(ranking, *labels, ks=(1, 10))
    assert found.map == pytest.approx(mean_average_precision(ranking, *labels))
    assert found.macro_map == pytest.approx(mean_average_precision(ranking, *labels, weighting="group"))
    assert found.label_map == pytest.approx(mean_average_precision(ranking, *labels, weighting="label"))
    own, items, *groups = labels
    assert found.ndcg[10] == pytest.approx(ndcg_at_k(ranking, own, items, 10, *groups).mean())
    assert found.recall[1] == pytest.approx(recall_at_k(ranking, own, items, 1, *groups).mean())
    assert found.precision[10] == pytest.approx(precision_at_k(ranking, own, items, 10, *groups).mean())
    assert found.hit_rate[1] == pytest.approx(hit_rate_at_k(ranking, own, items, 1, *groups).mean())
    counts = np.bincount(groups[0])
    assert sum(found.per_group[g] * counts[g] for g in (0, 1)) / 25 == pytest.approx(found.map)
    assert found.to_dict()["queries"] == 25


@pytest.mark.parametrize("k", [0, -1])
def test_rejects_k_below_one(k):
    with pytest.raises(ValueError, match="k must be at least 1"):
        precision_at_k(Ranking([[0]], [[0.9]]), [1], [1], k)
