"""Fitting: it finds a gain where there is one, and says so where there is none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ipad_rerank import (
    AlphaQueryExpansion,
    AverageQueryExpansion,
    Chain,
    FeatureReasoning,
    NoGainWarning,
    UnfamiliarDensityWarning,
    evaluate,
    mean_average_precision,
    rank,
)
from ipad_rerank.rerankers.feature_reasoning.fit import galleries_between
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut

FAST = {"n_r": 60, "steps": 60, "batch_size": 8, "hidden_width": 16, "evaluations": 2, "learning_rate": 5e-3}


def clusters(count: int, seed: int, groups: int = 1, shuffle: bool = False):
    """Vectors around the corners of random shapes, one a class; in each group the classes mean something else."""
    rng = np.random.default_rng(seed)
    labels, group_ids = rng.integers(5, size=count), rng.integers(groups, size=count)
    centers = np.random.default_rng(7).normal(size=(groups, 5, 16))
    vectors = centers[group_ids, labels] + 1.1 * rng.normal(size=(count, 16))
    if shuffle:
        labels = rng.permutation(labels)
    return vectors.astype(np.float32), labels, group_ids


@pytest.fixture(scope="module")
def fitted():
    vectors, labels, _ = clusters(1200, seed=0)
    return FeatureReasoning.fit(vectors, labels, verbose=False, **FAST)


@pytest.mark.parametrize("size", [120, 300, 900])
def test_raises_held_out_map_at_every_gallery_from_twice_n_r(fitted, size):
    query, query_labels, _ = clusters(150, seed=1)
    gallery, gallery_labels, _ = clusters(size, seed=2)
    ranking = rank(query, gallery)
    better = fitted.rerank(query, gallery, ranking)
    before = mean_average_precision(ranking, query_labels, gallery_labels)
    assert mean_average_precision(better, query_labels, gallery_labels) > before


@pytest.mark.parametrize("depth", [20, 27, 35, 45])
def test_fewer_candidates_than_n_r_do_no_harm(fitted, depth):
    query, query_labels, _ = clusters(300, seed=1)
    gallery, gallery_labels, _ = clusters(600, seed=2)
    ranking = rank(query, gallery, k=depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnfamiliarDensityWarning)  # where the list is too short it is left as it came
        better = fitted.rerank(query, gallery, ranking)
    before, after = (evaluate(found, query_labels, gallery_labels) for found in (ranking, better))
    assert after.map > before.map - 0.005
    assert after.precision[10] > before.precision[10] - 0.005


@pytest.mark.parametrize("objective", ["map", "precision@10"])
def test_the_objective_is_what_the_report_is_about(objective):
    vectors, labels, _ = clusters(600, seed=0)
    few = FAST | {"steps": 4, "keep_without_gain": True, "verbose": False, "objective": objective}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        chosen, given = (
            FeatureReasoning.fit(vectors, labels, **few),
            FeatureReasoning.fit(vectors, labels, blend=0.3, **few),
        )
    assert chosen.report["objective"] == objective
    assert set(chosen.report["measures"]) == {"map", "precision@1", "precision@10", "ndcg@10"}
    assert chosen.blend in (0.25, 0.5, 0.75, 1.0)
    assert given.blend == 0.3
    with pytest.raises(ValueError, match="objective must be"):
        FeatureReasoning.fit(vectors, labels, objective="mean")


def test_records_what_it_saw(fitted):
    low, high = fitted.density.gallery_sizes
    assert low == 62
    assert 900 < high < 1000
    assert 0 <= fitted.density.close_shares[0] < fitted.density.close_shares[1] <= 1
    found = fitted.report["measures"]["map"]
    assert found["after"] > found["before"]
    assert found["gain_interval"][0] > 0
    assert not fitted.training


def test_same_seed_same_result_other_seed_another(fitted):
    vectors, labels, _ = clusters(1200, seed=0)
    few = FAST | {"steps": 10, "keep_without_gain": True, "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        first, again, other = (FeatureReasoning.fit(vectors, labels, seed=s, **few) for s in (3, 3, 4))
    torch.testing.assert_close(first.network.state_dict(), again.network.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.network.first.weight, other.network.first.weight)


def test_does_not_touch_the_global_random_state():
    vectors, labels, _ = clusters(300, seed=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        FeatureReasoning.fit(vectors, labels, verbose=False, **FAST | {"steps": 2})
    torch.testing.assert_close(torch.rand(3), expected)


def test_meaningless_labels_give_the_identity_and_say_so(capsys):
    vectors, labels, _ = clusters(600, seed=0, shuffle=True)
    with pytest.warns(NoGainWarning, match="did not rise.*the identity is returned"):
        reasoner = FeatureReasoning.fit(vectors, labels, **FAST | {"steps": 20})
    assert reasoner.is_identity
    assert reasoner.report["returned"] == "identity"
    assert "Held out: MAP" in capsys.readouterr().err
    ranking = rank(vectors[:9], vectors)
    np.testing.assert_array_equal(reasoner.rerank(vectors[:9], vectors, ranking).indices, ranking.indices)


def test_keeps_it_without_gain_when_told_to():
    vectors, labels, _ = clusters(600, seed=0, shuffle=True)
    with pytest.warns(NoGainWarning, match="kept all the same"):
        reasoner = FeatureReasoning.fit(vectors, labels, keep_without_gain=True, **FAST | {"steps": 20})
    assert not reasoner.is_identity


def test_n_r_shrinks_with_few_vectors():
    vectors, labels, _ = clusters(1000, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        reasoner = FeatureReasoning.fit(vectors, labels, verbose=False, steps=1, evaluations=1, batch_size=2)
    assert reasoner.n_r == 400


def test_labels_count_within_groups():
    vectors, labels, group_ids = clusters(1600, seed=0, groups=2)
    reasoner = FeatureReasoning.fit(vectors, labels, group_ids, verbose=False, **FAST)
    assert reasoner.report["measures"]["map"]["gain_interval"][0] > 0
    assert reasoner.density.gallery_sizes[1] < 800


def test_starts_from_a_fitted_one(fitted):
    vectors, labels, _ = clusters(600, seed=5)
    reasoner = FeatureReasoning.fit(vectors, labels, init=fitted, steps=0, verbose=False)
    assert reasoner is not fitted
    torch.testing.assert_close(reasoner.network.state_dict(), fitted.network.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="init keeps its own settings; leave out n_r"):
        FeatureReasoning.fit(vectors, labels, init=fitted, n_r=30)


@pytest.mark.parametrize("options", [{"variant": "query_only"}, {"loss_rows": "all"}, {"n_t": 2}])
def test_other_settings_train(options):
    vectors, labels, _ = clusters(400, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        few = FAST | {"n_r": 20, "steps": 5, "keep_without_gain": True, "verbose": False}
        assert not FeatureReasoning.fit(vectors, labels, **few, **options).is_identity


def test_chain_fits_on_expanded_queries_and_survives_saving(tmp_path):
    vectors, labels, _ = clusters(1000, seed=0)
    query, query_labels, _ = clusters(100, seed=1)
    gallery, gallery_labels, _ = clusters(600, seed=2)
    chain = Chain(AlphaQueryExpansion(k=10), FeatureReasoning(n_r=60, hidden_width=16))
    options = {key: FAST[key] for key in ("steps", "batch_size", "evaluations", "learning_rate")}
    fitted = chain.fit(vectors, labels, verbose=False, keep_without_gain=True, **options)
    ranking = rank(query, gallery)
    better = fitted.rerank(query, gallery, ranking)
    before = mean_average_precision(ranking, query_labels, gallery_labels)
    assert mean_average_precision(better, query_labels, gallery_labels) > before
    np.testing.assert_array_equal(np.sort(better.indices, 1), np.sort(ranking.indices, 1))
    fitted.save_pretrained(tmp_path / "c")
    loaded = Chain.from_pretrained(tmp_path / "c")
    np.testing.assert_array_equal(loaded.rerank(query, gallery, ranking).indices, better.indices)
    found = loaded.rerank_candidates(query, gallery[ranking.indices[:, :50]])
    np.testing.assert_array_equal(np.sort(found.indices, 1), np.tile(np.arange(50), (100, 1)))


@pytest.mark.parametrize(("given", "expected"), [(None, "auto"), (1, 1), (3, 3)])
def test_behind_a_query_expansion_candidates_are_dealt_out_unless_told_otherwise(given, expected):
    vectors, labels, _ = clusters(400, seed=0)
    few = {key: FAST[key] for key in ("batch_size", "evaluations")} | {"steps": 2, "verbose": False}
    new = FeatureReasoning(n_r=60, hidden_width=16, sequences=given)
    assert new.sequences == given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        alone = Chain(new).fit(vectors, labels, **few).rerankers[-1]
        behind = Chain(AverageQueryExpansion(k=5), new).fit(vectors, labels, **few).rerankers[-1]
        told = Chain(AverageQueryExpansion(k=5), new).fit(vectors, labels, sequences=2, **few).rerankers[-1]
    assert (alone.sequences, behind.sequences, told.sequences) == (given, expected, 2)


@pytest.mark.parametrize(
    ("given", "option", "expected"), [(1.0, {}, 0.25), (0.5, {}, 0.5), (1.0, {"blend": 0.75}, 0.75)]
)
def test_the_fit_of_a_chain_chooses_the_blend_where_it_is_not_given(given, option, expected, monkeypatch):
    monkeypatch.setattr(HeldOut, "best_blend", lambda *_: 0.25)
    vectors, labels, _ = clusters(400, seed=0)
    few = {key: FAST[key] for key in ("batch_size", "evaluations")} | {"steps": 2, "verbose": False}
    new = FeatureReasoning(n_r=60, hidden_width=16, blend=given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        fitted = Chain(AverageQueryExpansion(k=5), new).fit(vectors, labels, **few, **option)
    assert fitted.rerankers[-1].blend == expected


def test_a_fit_that_harms_the_head_at_every_blend_is_the_identity(monkeypatch):
    monkeypatch.setattr(HeldOut, "best_blend", lambda *_: 0.0)
    vectors, labels, _ = clusters(600, seed=0)
    with pytest.warns(NoGainWarning, match=r"did not rise.*P@10 would fall by more than 2 points.*the identity"):
        assert FeatureReasoning.fit(vectors, labels, verbose=False, **FAST).is_identity
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        kept = FeatureReasoning.fit(vectors, labels, verbose=False, keep_without_gain=True, **FAST | {"steps": 4})
    assert (kept.is_identity, kept.blend) == (False, 0.25)


@pytest.mark.parametrize(("queries", "galleries"), [(500, 4), (300, 6), (20, 8), (4000, 3)])
def test_the_blend_is_chosen_in_several_random_galleries(queries, galleries):
    sizes = galleries_between([200, 1000, 5000], queries)
    assert len(sizes) == galleries
    assert sizes == sorted(set(sizes))
    assert 200 < sizes[0] < sizes[-1] < 5000


@pytest.mark.parametrize("shared", [True, False])
def test_chain_fits_reasoners_in_turn_and_one_that_stands_twice_once(shared, capsys, tmp_path):
    vectors, labels, _ = clusters(1000, seed=0)
    query, query_labels, _ = clusters(100, seed=1)
    gallery, gallery_labels, _ = clusters(600, seed=2)
    new = FeatureReasoning(n_r=60, hidden_width=16)
    options = {key: FAST[key] for key in ("steps", "batch_size", "evaluations", "learning_rate")}
    chain = Chain(new, AverageQueryExpansion(k=20), new if shared else FeatureReasoning(n_r=60, hidden_width=16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        fitted = chain.fit(vectors, labels, keep_without_gain=True, **options)
    first, expansion, last = fitted.rerankers
    assert new.is_identity
    assert not first.is_identity
    assert (first is last) == shared
    assert capsys.readouterr().err.count("Held out") == (1 if shared else 2)
    if not shared:  # what the last one learns on was moved by the others
        assert last.report["measures"]["map"]["before"] > first.report["measures"]["map"]["after"]
    ranking = rank(query, gallery)
    found = [step.rerank(query, gallery, ranking) for step in (first, Chain(first, expansion), fitted)]
    before, alone, moved, best = (
        mean_average_precision(found, query_labels, gallery_labels) for found in (ranking, *found)
    )
    assert before < alone < moved
    assert best > alone
    fitted.save_pretrained(tmp_path / "c")
    loaded = Chain.from_pretrained(tmp_path / "c")
    assert (loaded.rerankers[0] is loaded.rerankers[2]) == shared
    np.testing.assert_array_equal(loaded.rerank(query, gallery, ranking).indices, found[2].indices)


def test_chain_keeps_fitted_reasoners_and_a_fitted_last_step_is_the_start(fitted):
    vectors, labels, _ = clusters(600, seed=5)
    options = {"steps": 0, "verbose": False, "keep_without_gain": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        first, _, last = Chain(fitted, AlphaQueryExpansion(k=20), fitted).fit(vectors, labels, **options).rerankers
        other = Chain(fitted, FeatureReasoning(n_r=60)).fit(vectors, labels, **options).rerankers[1]
    assert first is fitted
    assert last is not fitted
    torch.testing.assert_close(last.network.state_dict(), fitted.network.state_dict(), rtol=0, atol=0)
    assert other.is_identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(300, int)}, "single class"),
        ({"labels": np.zeros(299, int)}, "labels has 299 entries, embeddings has 300 rows"),
        ({"labels": np.full(300, 0.5)}, "labels must be whole numbers"),
        ({"group_ids": np.zeros(2, int)}, "group_ids has 2 entries"),
        ({"embeddings": np.full((300, 4), np.nan)}, "embeddings has NaN"),
        ({"embeddings": np.ones((20, 4)), "labels": np.arange(20)}, "at least 200"),
        ({"n_r": 1}, "n_r"),
        ({"steps": -1}, "steps"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"gallery_sizes": (50, 10)}, "gallery_sizes"),
    ],
)
def test_bad_input(change, message):
    vectors, labels, _ = clusters(300, seed=0)
    with pytest.raises(ValueError, match=message):
        FeatureReasoning.fit(**{"embeddings": vectors, "labels": labels} | change)


def test_misspelled_option_is_a_type_error():
    vectors, labels, _ = clusters(300, seed=0)
    with pytest.raises(TypeError, match="hiden_width"):
        FeatureReasoning.fit(vectors, labels, hiden_width=3)


def test_chain_rejects_what_it_cannot_run():
    with pytest.raises(ValueError, match="at least one"):
        Chain()
    with pytest.raises(TypeError, match="rerank method"):
        Chain(AlphaQueryExpansion)
    with pytest.raises(TypeError, match="ends in FeatureReasoning"):
        Chain(AlphaQueryExpansion()).fit(np.ones((300, 4)), np.arange(300))
