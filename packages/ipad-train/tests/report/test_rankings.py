from __future__ import annotations

import numpy as np
import pytest

from ipad_core import AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_rerank.rerankers.feature_reasoning.density import Density, UnfamiliarDensityWarning
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.evaluate import reranked_row
from ipad_train.launch import make_accelerator
from ipad_train.report.failures import confusions, worst_queries
from ipad_train.report.rankings import choose_queries, retrieve
from ipad_train.reranking import load_reranking

SCHEMA = AttributeSchema({"sleeve_length": ["short", "long"], "collar": ["none", "shirt", "stand"]})


def entries(vectors, attribute_ids, value_ids):
    """Entries of images 0, 1, ... with two-dimensional embeddings."""
    count = len(vectors)
    return EntryEmbeddings(
        fused=np.asarray(vectors, dtype=np.float32),
        spatial=None,
        semantic=None,
        peak=None,
        image_ids=np.arange(count),
        attribute_ids=np.asarray(attribute_ids),
        value_ids=np.asarray(value_ids),
        roles=np.zeros(count, dtype=np.int64),
    )


@pytest.fixture(scope="module")
def embedded(single):
    config = load_run_config(single[0])
    data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(single[0] / "best")
    return embed_split(model, data.splits["test"], config.data, make_accelerator(config)), data


def test_map_equals_the_evaluation(single, embedded):
    query, gallery = embedded[0].with_role("query"), embedded[0].with_role("gallery")
    retrieval = retrieve(query, gallery, load_reranking(single[0]).reranker)
    rows = {row["name"]: row["overall"] for row in single[1]["rows"]}
    np.testing.assert_allclose(100 * retrieval.precision.mean(), rows["fused"], atol=1e-3)
    np.testing.assert_allclose(100 * retrieval.precision_after.mean(), rows["fused + FR"], atol=1e-3)


def test_a_gallery_that_the_evaluation_leaves_alone_is_shown_as_it_was(single, embedded):
    entries, data = embedded
    reasoner = load_reranking(single[0]).reranker
    reasoner.density = Density((5000, 9000), 0.5, (0.0, 1.0))  # the galleries here have some tens of rows
    with pytest.warns(UnfamiliarDensityWarning, match="fitted on 5000 to 9000"):
        retrieval = retrieve(entries.with_role("query"), entries.with_role("gallery"), reasoner)
    with pytest.warns(UnfamiliarDensityWarning):
        row = reranked_row(reasoner, entries, data.schema, "fused + FR")
    assert (retrieval.reranked, retrieval.left_alone) == (False, True)
    np.testing.assert_array_equal(retrieval.top_after, retrieval.top)
    np.testing.assert_allclose(100 * retrieval.precision_after.mean(), row["overall"], atol=1e-9)


def test_places_before_re_ranking(single, embedded):
    query, gallery = embedded[0].with_role("query"), embedded[0].with_role("gallery")
    retrieval = retrieve(query, gallery, load_reranking(single[0]).reranker, k=10)
    assert (retrieval.reranked, retrieval.left_alone) == (True, False)
    moved = 0
    for i in range(len(query.value_ids)):
        for place, entry in enumerate(retrieval.top_after[i]):
            former = retrieval.former[i, place]
            if entry >= 0 and former < 10:
                assert retrieval.top[i, former] == entry
                moved += former != place
    assert moved > 0


def test_helped_most_hurt_most_and_median_are_chosen(single, embedded):
    query, gallery = embedded[0].with_role("query"), embedded[0].with_role("gallery")
    retrieval = retrieve(query, gallery, load_reranking(single[0]).reranker)
    chosen = choose_queries(retrieval, embedded[1].schema)
    assert retrieval.gain[chosen[0][1]] == retrieval.gain.max() > 0
    assert retrieval.gain[chosen[1][1]] == retrieval.gain.min() < 0
    assert len(chosen) == 2 + len(embedded[1].schema.attributes)
    for _, index in chosen[2:]:
        mine = retrieval.precision[query.attribute_ids == query.attribute_ids[index]]
        assert (mine < retrieval.precision[index]).sum() <= len(mine) / 2
        assert (mine > retrieval.precision[index]).sum() <= len(mine) / 2


def test_without_re_ranking_nobody_gains():
    query = entries([[1, 0], [0, 1]], [0, 0], [0, 1])
    gallery = entries([[1, 0], [0, 1], [1, 1]], [0, 0, 1], [0, 1, 2])
    retrieval = retrieve(query, gallery, None, k=4)
    assert retrieval.top.tolist() == [[0, 1, -1, -1], [1, 0, -1, -1]]  # of the own attribute only
    assert [title for title, _ in choose_queries(retrieval, SCHEMA)] == ["A typical query of sleeve length"]
    np.testing.assert_array_equal(retrieval.precision, [1.0, 1.0])
    np.testing.assert_array_equal(retrieval.gain, [0.0, 0.0])


def test_attribute_without_gallery_is_left_empty():
    query = entries([[1, 0], [0, 1]], [0, 1], [0, 2])
    retrieval = retrieve(query, entries([[1, 0]], [0], [0]), None, k=2)
    assert retrieval.top.tolist() == [[0, -1], [-1, -1]]
    assert retrieval.precision.tolist() == [1.0, 0.0]
    assert confusions(retrieval, SCHEMA) == []


def test_confusions_count_wrong_first_answers():
    query = entries([[1, 0]] * 3 + [[0, 1]], [1, 1, 1, 1], [2, 2, 3, 4])
    gallery = entries([[1, 0], [0, 1]], [1, 1], [3, 4])
    found = confusions(retrieve(query, gallery, None), SCHEMA)
    assert [(c.attribute, c.value, c.found, c.count, c.queries) for c in found] == [
        ("collar", "none", "shirt", 2, 2),
    ]


def test_worst_queries_come_worst_first():
    query = entries([[1, 0], [0, 1], [1, 0]], [0, 0, 1], [0, 0, 2])
    gallery = entries([[1, 0], [0, 1], [1, 0]], [0, 0, 1], [0, 1, 3])
    worst = worst_queries(retrieve(query, gallery, None), SCHEMA)
    assert worst == [("Worst query of collar", 2), ("Worst query of sleeve length", 1)]
