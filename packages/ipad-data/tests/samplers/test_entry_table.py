from __future__ import annotations

import numpy as np
import pytest

from ipad_data import AttributeSchema, EntryTable, EvaluationPlans

SCHEMA = AttributeSchema({"a": ["x", "y"], "b": ["x", "y", "z"]})


def test_arrays(make_dataset):
    table = EntryTable.from_dataset(make_dataset(SCHEMA, [[(0, 1)], [], [(0, 0), (1, 2)]]))
    assert table.rows.tolist() == [0, 2, 2]
    assert table.attribute_ids.tolist() == [0, 0, 1]
    assert table.value_ids.tolist() == [1, 0, 4]
    assert table.image_ids.tolist() == [100, 102, 102]
    assert table.value_counts.tolist() == [1, 1, 0, 0, 1]


def test_rows_follow_select_shuffle_and_concatenation(make_dataset):
    from datasets import concatenate_datasets

    dataset = make_dataset(SCHEMA, [[(0, i % 2), (1, i % 3)] for i in range(10)])
    dataset = concatenate_datasets([dataset, dataset]).shuffle(seed=0).select(range(3, 9))
    table = EntryTable.from_dataset(dataset)
    assert table.rows.tolist() == [i for i in range(6) for _ in range(2)]
    assert table.image_ids[::2].tolist() == dataset["image_id"]
    assert table.value_ids.reshape(6, 2).tolist() == dataset["value_ids"][:]


def test_roles(rendered):
    for role, expected in (("train", 0), ("query", 4), ("gallery", 16), (None, 20)):
        assert len(np.unique(EntryTable.from_dataset(rendered["test"], role).rows)) == expected
    with pytest.raises(ValueError, match="role must be one of train, query, gallery or None, got 'probe'"):
        EntryTable.from_dataset(rendered["test"], "probe")


def test_other_datasets_are_refused(rendered):
    with pytest.raises(ValueError, match="features must hold 'attribute_ids'"):
        EntryTable.from_dataset(rendered["test"].remove_columns("value_ids"))


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_lists_entries_once_in_row_order(rendered, world_size):
    test = rendered["test"]
    parts = [list(EvaluationPlans(test, 6, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sum(map(len, parts)) == 4
    found = sorted(
        (int(p.rows[i]), int(v))
        for part in parts
        for p in part
        for i, v in zip(p.image_index, p.value_ids, strict=True)
    )
    table = EntryTable.from_dataset(test)
    assert found == sorted(zip(table.rows.tolist(), table.value_ids.tolist(), strict=True))
    rows = [row for part in parts for plan in part for row in plan.rows.tolist()]
    assert sorted(rows) == list(range(20))
    if world_size == 1:
        assert rows == list(range(20))
        assert len(EvaluationPlans(test, 6)) == 4


def test_evaluation_roles(rendered):
    plans = list(EvaluationPlans(rendered["test"], 6, roles=["query"]))
    assert [plan.rows.tolist() for plan in plans] == [[0, 5, 10, 15]]
    with pytest.raises(ValueError, match="roles must be a sequence of train, query, gallery"):
        EvaluationPlans(rendered["test"], 6, roles="query")
    with pytest.raises(ValueError, match="dataset has no entries of roles train"):
        EvaluationPlans(rendered["test"], 6, roles=["train"])
