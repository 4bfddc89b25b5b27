import numpy as np
import pytest
import torch

from ipad_rerank import rank
from ipad_rerank.metrics import mean_average_precision
from ipad_rerank.rerankers.diffusion import GraphDiffusion
from ipad_rerank.rerankers.k_reciprocal.reranker import KReciprocal
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.selection.tune import tune

GRIDS = {
    "average_query_expansion": {"k": (1, 10)},
    "alpha_query_expansion": {"k": (5, 20), "alpha": (0, 3)},
    "database_augmentation": {"k": (3, 10), "alpha": (0, 3)},
    "k_reciprocal": {"k1": (5, 30), "k2": (1, 10), "lambda_value": (0.0, 0.3)},
    "diffusion": {"k": (5, 20), "alpha": (0.5, 0.9), "query_neighbors": (3, 10)},
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    vectors = rng.normal(size=(5, 12))[labels] + 1.5 * rng.normal(size=(300, 12))
    return vectors[:60], vectors[60:], labels[:60], labels[60:]


@pytest.mark.parametrize("restrict_to", [None, 50])
@pytest.mark.parametrize("name", GRIDS)
def test_table_holds_what_each_setting_scores(data, name, restrict_to):
    query, gallery, own, items = data
    found = tune(RERANKERS[name](restrict_to=restrict_to), *data, grid=GRIDS[name])
    ranking = rank(query, gallery)
    assert found.baseline == pytest.approx(mean_average_precision(ranking, own, items))
    for row in found.table:
        setting = {key: value for key, value in row.items() if key != "map"}
        single = RERANKERS[name](**setting, restrict_to=restrict_to).rerank(query, gallery, ranking)
        assert row["map"] == pytest.approx(mean_average_precision(single, own, items), abs=1e-9)
    maps = [row["map"] for row in found.table]
    assert maps == sorted(maps, reverse=True)
    assert found.value == maps[0]
    assert found.reranker.restrict_to == restrict_to
    best = found.reranker.rerank(query, gallery, ranking)
    assert mean_average_precision(best, own, items) == pytest.approx(found.value, abs=1e-9)


def test_averaging_over_more_neighbors_than_looked_at_is_left_out(data):
    found = tune("k_reciprocal", *data, grid=GRIDS["k_reciprocal"])
    assert {(row["k1"], row["k2"]) for row in found.table} == {(5, 1), (30, 1), (30, 10)}


def test_helps_and_says_where_the_grid_ends(data):
    found = tune("alpha_query_expansion", *data, grid={"k": (2, 20, 40)})
    assert found.helps
    assert found.value > found.baseline + 0.02
    assert found.at_edge == (("k",) if found.reranker.k in (2, 40) else ())
    assert "MAP" in str(found)


def test_says_so_when_nothing_helps(data):
    query, gallery, own, _ = data
    shuffled = np.random.default_rng(0).integers(0, 240, 240) % 5
    found = tune("average_query_expansion", query, gallery, own, shuffled, grid={"k": (239,)}, k=5)
    assert found.helps == (found.value > found.baseline)
    if not found.helps:
        assert "No setting is better" in str(found)


def test_groups_are_retrievals_of_their_own(data):
    query, gallery, own, items = data
    groups, item_groups = np.arange(60) % 2, np.arange(240) % 2
    found = tune("diffusion", *data, GRIDS["diffusion"], groups, item_groups)
    totals = 0.0
    for group in (0, 1):
        part = (query[groups == group], gallery[item_groups == group])
        single = found.reranker.rerank(*part, rank(*part))
        totals += mean_average_precision(single, own[groups == group], items[item_groups == group])
    assert found.value == pytest.approx(totals / 2, abs=1e-9)


def test_a_group_that_the_gallery_lacks_scores_zero(data):
    groups, item_groups = np.arange(60) % 2, np.zeros(240, dtype=int)
    found = tune("average_query_expansion", *data, {"k": (1,)}, groups, item_groups)
    half = tune("average_query_expansion", data[0][::2], data[1], data[2][::2], data[3], {"k": (1,)})
    assert found.baseline == pytest.approx(half.baseline / 2)


def test_sample_of_queries_is_seeded(data):
    first, second = (tune("average_query_expansion", *data, max_queries=20, seed=1) for _ in range(2))
    assert first.table == second.table
    assert first.queries == 20
    assert tune("average_query_expansion", *data, max_queries=20, seed=2).baseline != first.baseline


def test_default_grids_are_cut_to_the_gallery(data):
    query, gallery, own, items = data
    found = tune("alpha_query_expansion", query, gallery[:30], own, items[:30])
    assert max(row["k"] for row in found.table) < 30
    assert all(cls.grid for cls in RERANKERS.values())
    assert tune("diffusion", query, gallery[:1], own, items[:1]).queries == 60


def test_keeps_the_other_parameters_of_an_instance(data):
    found = tune(GraphDiffusion(gamma=1.0), *data, grid={"k": (5, 10)})
    assert found.reranker.gamma == 1.0
    assert tune(AlphaQueryExpansion, *data, grid={"k": (5,)}).reranker.alpha == 3.0


def test_tensors(data):
    found = tune("k_reciprocal", *map(torch.from_numpy, data), grid={"k1": (5, 20)})
    assert found.table == tune("k_reciprocal", *data, grid={"k1": (5, 20)}).table


@pytest.mark.parametrize(
    ("reranker", "options", "message"),
    [
        ("k_reciprocol", {}, "did you mean 'k_reciprocal'"),
        (object(), {}, "reranker must be one of average_query_expansion"),
        (KReciprocal(), {"grid": {"k9": (1,)}}, "unknown parameters k9; k_reciprocal has k1, k2"),
        ("k_reciprocal", {"grid": {}}, "grid must have values"),
        ("k_reciprocal", {"grid": {"k1": ()}}, "got none for k1"),
        ("k_reciprocal", {"query_groups": [0] * 60}, "query_groups and gallery_groups go together"),
        ("k_reciprocal", {"max_queries": 0}, "max_queries must be at least 1"),
        ("k_reciprocal", {"gallery_labels": [1]}, "gallery_labels has 1 entries, gallery has 240"),
        ("diffusion", {"gallery": np.full((240, 12), np.nan)}, "gallery has NaN"),
        ("diffusion", {"query": np.ones((60, 3))}, "gallery has 12 dimensions, query has 3"),
        ("diffusion", {"k": 0}, "k must be at least 1"),
        ("k_reciprocal", {"query_labels": [1]}, "query_labels has 1 entries, query has 60"),
    ],
)
def test_bad_input(data, reranker, options, message):
    names = ("query", "gallery", "query_labels", "gallery_labels")
    with pytest.raises(ValueError, match=message):
        tune(reranker, **dict(zip(names, data, strict=True)) | options)
