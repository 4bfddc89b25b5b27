"""Which re-ranking a run keeps: by validation MAP, unless it costs the first answer."""

from __future__ import annotations

import numpy as np
import pytest
from accelerate import Accelerator

from ipad_data.roles import ROLES
from ipad_rerank import AlphaQueryExpansion, Chain, FeatureReasoning, Ranking, rank
from ipad_rerank.metrics import average_precision
from ipad_train import reranking
from ipad_train.checkpoint import write_json
from ipad_train.config import RerankConfig, RunConfig
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import reranked_precisions
from ipad_train.reranking import RunReranking, choose_reranking, load_reranking, rerankers_to_try, spelled_out

CONFIG = RunConfig(rerank=RerankConfig(expand=[2, 4], steps=2, n_r=10))


def entries(seed: int, spread: float = 0.35, per_value: int = 24) -> EntryEmbeddings:
    """Two attributes of three values each: unit vectors around centers; a fourth of them are queries."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(9).standard_normal((6, 16))
    value_ids = np.repeat(np.arange(6), per_value)
    vectors = centers[value_ids] / np.linalg.norm(centers[value_ids], axis=1, keepdims=True)
    vectors = vectors + spread * random.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = np.arange(len(value_ids))
    roles = np.where(ids % 4 == 0, ROLES.index("query"), ROLES.index("gallery"))
    return EntryEmbeddings(vectors, None, None, None, ids, value_ids // 3, value_ids, roles)


@pytest.fixture
def identity(monkeypatch):
    monkeypatch.setattr(reranking, "fit_reasoner", lambda *arguments: FeatureReasoning(n_r=10))


def test_feature_reasoning_alone_or_with_expansions_is_tried():
    fitted, expand = FeatureReasoning(n_r=10), [5, 20]
    assert list(rerankers_to_try(fitted, expand)) == ["QE (k=5)", "QE (k=20)"]  # the identity is nothing to try
    fitted.network.last.weight.data.fill_(0.1)
    assert list(rerankers_to_try(fitted, [])) == ["FR"]
    tried = rerankers_to_try(fitted, expand)
    assert list(tried) == [
        *("FR", "QE (k=5)", "FR, QE (k=5)", "FR, QE (k=5), FR"),
        *("QE (k=20)", "FR, QE (k=20)", "FR, QE (k=20), FR"),
    ]
    assert isinstance(tried["FR, QE (k=5), FR"], Chain)
    assert tried["FR, QE (k=5), FR"].rerankers == (fitted, AlphaQueryExpansion(k=5), fitted)


def test_the_best_on_validation_is_kept_and_read_again(identity, tmp_path):
    validation, test = entries(0), entries(1)
    chosen, outcome = choose_reranking(tmp_path, validation, validation, CONFIG, Accelerator(cpu=True))
    tried = {f"QE (k={k})": Chain(AlphaQueryExpansion(k=k)) for k in (2, 4)}
    maps = {name: 100 * reranked_precisions(reranker, validation)[0].mean() for name, reranker in tried.items()}
    assert {name: found["map"] for name, found in outcome["tried"].items()} == pytest.approx(maps)
    assert (outcome["chosen"], outcome["after"]) == (max(maps, key=maps.get), pytest.approx(max(maps.values())))
    assert outcome["after"] > outcome["before"] == pytest.approx(100 * reranked_precisions(None, validation)[0].mean())
    assert (outcome["used"], chosen.name, chosen.refused) == (True, "re-ranking", False)
    write_json(tmp_path / "validation.json", {"rerank": outcome})
    again = load_reranking(tmp_path)
    assert (again.name, again.refused, again.chosen) == ("re-ranking", False, outcome["chosen"])
    assert again.reranker.rerankers == tried[outcome["chosen"]].rerankers
    assert spelled_out(again.chosen) == again.chosen.replace("QE", "query expansion")
    np.testing.assert_array_equal(
        reranked_precisions(again.reranker, test), reranked_precisions(chosen.reranker, test)
    )


def test_a_copy_of_the_query_stays_first_behind_an_expansion_alone():
    query, gallery = np.eye(8)[:1], np.concatenate([np.eye(8)[:1], np.tile([[0.8, 0.6, *np.zeros(6)]], (12, 1))])
    ranking = rank(query, gallery)
    tried = rerankers_to_try(FeatureReasoning(n_r=10), [5])["QE (k=5)"]
    assert AlphaQueryExpansion(k=5).rerank(query, gallery, ranking).indices[0, 0] != 0
    assert tried.rerank(query, gallery, ranking).indices[0, 0] == 0


def test_precisions_are_those_of_each_attribute_ranked_by_itself():
    found, first = reranked_precisions(AlphaQueryExpansion(k=3), entries(2))
    query, gallery = (entries(2).with_role(role) for role in ("query", "gallery"))
    for attribute in (0, 1):
        mine, theirs = query.attribute_ids == attribute, gallery.attribute_ids == attribute
        ranking = rank(query.fused[mine], gallery.fused[theirs])
        ranking = AlphaQueryExpansion(k=3).rerank(query.fused[mine], gallery.fused[theirs], ranking)
        labels = gallery.value_ids[theirs][ranking.indices]
        np.testing.assert_array_equal(first[mine], labels[:, 0] == query.value_ids[mine])
        np.testing.assert_allclose(
            found[mine], average_precision(ranking, query.value_ids[mine], gallery.value_ids[theirs])
        )


class FirstLast:
    """Takes the best of every ranking to its end."""

    def rerank(self, query, gallery, ranking, **options):
        return Ranking(np.roll(ranking.indices, -1, axis=1), ranking.scores)


def test_what_lowers_map_is_refused_and_an_older_re_ranker_goes(identity, monkeypatch, tmp_path):
    AlphaQueryExpansion().save_pretrained(tmp_path / "reasoner")
    monkeypatch.setattr(reranking, "rerankers_to_try", lambda *arguments: {"worse": FirstLast()})
    validation = entries(0, spread=0.1)
    chosen, outcome = choose_reranking(tmp_path, validation, validation, CONFIG, Accelerator(cpu=True))
    assert outcome["after"] < outcome["before"]
    assert (chosen, outcome["used"], outcome["chosen"]) == (RunReranking(None, "re-ranking", True), False, "worse")
    assert not (tmp_path / "reasoner").exists()
    write_json(tmp_path / "validation.json", {"rerank": outcome})
    assert load_reranking(tmp_path) == chosen


def test_a_higher_map_with_a_worse_first_answer_is_passed_over(identity, monkeypatch, tmp_path):
    validation = entries(0)
    count = len(validation.with_role("query").value_ids)
    by_name = {None: (0.5, count), "greedy": (0.9, count // 2), "careful": (0.6, count - 1)}

    def precisions(reranker, embedded):
        value, right = by_name[reranker]
        return np.full(count, value), (np.arange(count) < right).astype(float)

    monkeypatch.setattr(reranking, "rerankers_to_try", lambda *arguments: {"greedy": "greedy"})
    monkeypatch.setattr(reranking, "reranked_precisions", precisions)
    _, outcome = choose_reranking(tmp_path, validation, validation, CONFIG, Accelerator(cpu=True))
    assert (outcome["used"], outcome["chosen"], outcome["after"]) == (False, "greedy", pytest.approx(90.0))

    class Saved(str):
        def save_pretrained(self, folder):
            (folder / self).touch()

    tried = {name: Saved(name) for name in ("greedy", "careful")}
    monkeypatch.setattr(reranking, "rerankers_to_try", lambda *arguments: tried)
    chosen, outcome = choose_reranking(tmp_path, validation, validation, CONFIG, Accelerator(cpu=True))
    assert (outcome["chosen"], chosen.reranker) == ("careful", "careful")  # one query of 36 is within chance
    assert (tmp_path / "reasoner" / "careful").is_file()


def test_nothing_to_try_changes_nothing(identity, tmp_path):
    config = RunConfig(rerank=RerankConfig(expand=[]))
    validation = entries(0)
    chosen, outcome = choose_reranking(tmp_path, validation, validation, config, Accelerator(cpu=True))
    assert (chosen, outcome["chosen"], outcome["tried"]) == (RunReranking(None, "FR", True), None, {})
    assert outcome["after"] == outcome["before"]


def test_results_that_name_no_re_ranking_are_of_feature_reasoning(tmp_path):
    write_json(tmp_path / "validation.json", {"rerank": {"used": False, "before": 60.0, "after": 59.0}})
    assert load_reranking(tmp_path) == RunReranking(None, "FR", True)
    assert load_reranking(tmp_path / "nothing") == RunReranking()


@pytest.mark.parametrize("wrong", [[0], [-1], ["a"], [2.5]])
def test_an_expansion_by_no_candidates_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"rerank\.expand must be a list of whole numbers from 1 on, got"):
        RerankConfig(expand=wrong)
