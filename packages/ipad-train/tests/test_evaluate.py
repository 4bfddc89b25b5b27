from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_data import AttributeSchema
from ipad_train.embed import EntryEmbeddings, attention_peak
from ipad_train.evaluate import evaluate_split
from ipad_train.localization import localization, random_localization
from ipad_train.result_tables import map_table
from ipad_train.run_context import RunContext


def test_attention_peak_by_hand():
    maps = torch.zeros(2, 2, 4)
    maps[0, 1, 2] = 1.0
    maps[1, 0, 0] = 1.0
    assert attention_peak(maps).tolist() == [[0.625, 0.75], [0.125, 0.25]]


def test_table_is_markdown_with_every_attribute():
    results = {
        "rows": [{"name": "random", "overall": 20.0, "attributes": {"a": 10.0, "b": 30.0}}],
        "localization": None,
    }
    lines = map_table(results).splitlines()
    assert lines[0].replace(" ", "") == "|MAP,%|a|b|overall|"
    assert lines[2].replace(" ", "") == "|random|10.00|30.00|20.00|"


def loop_map(query, gallery):
    """MAP over all queries by plain loops: the field's protocol."""
    precisions = []
    for q in range(len(query.value_ids)):
        mine = [g for g in range(len(gallery.value_ids)) if gallery.attribute_ids[g] == query.attribute_ids[q]]
        mine.sort(key=lambda g: -float(query.fused[q] @ gallery.fused[g]))
        hits, total = 0, 0.0
        for place, g in enumerate(mine, start=1):
            if gallery.value_ids[g] == query.value_ids[q]:
                hits += 1
                total += hits / place
        precisions.append(total / hits if hits else 0.0)
    return 100 * float(np.mean(precisions))


def test_overall_map_agrees_with_loops_on_a_real_split(finished):
    from accelerate import Accelerator

    from ipad_core import AttributeEmbedder
    from ipad_train.config_files import load_run_config
    from ipad_train.data import load_data
    from ipad_train.embed import embed_split

    config = load_run_config(finished[0])
    data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(finished[0] / "best")
    accelerator = Accelerator()
    results = evaluate_split(model, RunContext(config, data, accelerator), "test")
    embedded = embed_split(model, data.splits["test"], config.data, accelerator, batch_size=7)
    expected = loop_map(embedded.with_role("query"), embedded.with_role("gallery"))
    assert results["rows"][-1]["overall"] == pytest.approx(expected, abs=1e-6)
    assert len(embedded.value_ids) == sum(len(row["value_ids"]) for row in data.splits["test"])


def test_localization_counts_peaks_inside_any_box(finished):
    from ipad_train.config_files import load_run_config
    from ipad_train.data import load_data

    data = load_data(load_run_config(finished[0]).data)
    split = data.splits["test"]
    row = split.with_format(None)[0]
    count = len(row["attribute_ids"])
    centers = [np.asarray(boxes[0]).reshape(2, 2).mean(axis=0) for boxes in row["boxes"]]
    peak = np.stack([*centers[:-1], [2.0, 2.0]])  # the last entry points outside the image
    ids = np.full(count, row["image_id"])
    entries = EntryEmbeddings(
        fused=peak,
        spatial=None,
        semantic=None,
        peak=peak,
        image_ids=ids,
        attribute_ids=np.array(row["attribute_ids"]),
        value_ids=np.array(row["value_ids"]),
        roles=np.ones(count, dtype=np.int64),
    )
    assert localization(entries, split, data.schema)["overall"] == pytest.approx(100 * (count - 1) / count)


def test_an_unknown_split_lists_the_choices(finished):
    from ipad_train.config_files import load_run_config
    from ipad_train.data import load_data

    config = load_run_config(finished[0])
    with pytest.raises(ValueError, match="train, validation, test"):
        evaluate_split(None, RunContext(config, load_data(config.data), None), "tests")


class Boxes:
    """Three entries of one attribute: box of the left half, no box, box of the right half."""

    column_names = ("image_id", "attribute_ids", "boxes", "box_chance")
    rows = (
        {"image_id": 0, "attribute_ids": [0], "boxes": [[[0.0, 0.0, 0.5, 1.0]]], "box_chance": [0.4]},
        {"image_id": 1, "attribute_ids": [0], "boxes": [[]], "box_chance": [0.0]},
        {"image_id": 2, "attribute_ids": [0], "boxes": [[[0.5, 0.0, 1.0, 1.0]]], "box_chance": [0.2]},
    )

    def select_columns(self, names):
        return self

    def with_format(self, kind):
        return self.rows


def test_entries_without_a_true_box_are_left_out_of_the_peaks_and_of_the_random_points():
    peak = np.array([[0.2, 0.5], [0.2, 0.5], [0.2, 0.5]])
    entries = EntryEmbeddings(
        fused=peak,
        spatial=None,
        semantic=None,
        peak=peak,
        image_ids=np.arange(3),
        attribute_ids=np.zeros(3, np.int64),
        value_ids=np.zeros(3, np.int64),
        roles=np.ones(3, np.int64),
    )
    schema = AttributeSchema({"hat": ["no", "yes"], "belt": ["no", "yes"]})
    assert localization(entries, Boxes(), schema) == {"hat": 50.0, "overall": 50.0}
    assert random_localization(entries, Boxes(), schema) == pytest.approx({"hat": 30.0, "overall": 30.0})
    nowhere = Boxes()
    nowhere.rows = ({**Boxes.rows[1]},)
    assert localization(entries.select(np.array([1])), nowhere, schema) is None
    nowhere.column_names = ("image_id", "attribute_ids", "boxes")
    assert random_localization(entries, nowhere, schema) is None


def test_a_table_of_means_shows_each_seed_the_random_point_and_the_differences():
    results = {
        "rows": [{"name": "lens", "overall": 20.0, "attributes": {"a": 10.0}, "seeds": [19.04, None]}],
        "localization": {"a": 50.0, "overall": 40.0},
        "random_localization": {"a": 10.0, "overall": 12.0},
        "differences": [{"first": "fused", "second": "lens", "mean": 1.0, "low": -0.5, "high": 2.5}],
    }
    text = map_table(results)
    assert "| 19.0 / - |" in text
    assert "a 50 / 10, overall 40 / 12" in text
    assert "- fused - lens: +1.00 (-0.50 to +2.50)" in text
