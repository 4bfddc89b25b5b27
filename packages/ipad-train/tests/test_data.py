from __future__ import annotations

import datasets
import numpy as np
import pytest

import ipad_data
from ipad_data.prepare import prepare
from ipad_train.config import DataConfig, StageConfig
from ipad_train.data import load_data, make_sampler

OPTIONS = {"num_train": 20, "num_validation": 10, "num_test": 10, "size": 64}


@pytest.fixture
def rendered():
    return ipad_data.load("rendered", **OPTIONS)


@pytest.mark.parametrize("options", [{}, OPTIONS])
def test_a_prepared_folder_is_data(rendered, tmp_path, options):
    prepare(rendered, tmp_path / "out", size=48, options=OPTIONS)
    data = load_data(DataConfig(name="rendered", dir=str(tmp_path / "out"), options=options))
    assert {split: rows.num_rows for split, rows in data.splits.items()} == {"train": 20, "validation": 10, "test": 10}
    assert data.value_counts.tolist() == load_data(DataConfig(options=OPTIONS)).value_counts.tolist()


@pytest.mark.parametrize(("option", "value"), [("streaming", True), ("split", "train")])
def test_rows_that_come_one_after_the_other_are_refused(rendered, tmp_path, option, value):
    prepare(rendered, tmp_path / "out", size=48)
    with pytest.raises(ValueError, match=f"data.options must not hold {option}, got {value!r}"):
        load_data(DataConfig(name="rendered", dir=str(tmp_path / "out"), options={option: value}))


def test_data_without_validation_is_refused_before_training(rendered, tmp_path):
    prepare(datasets.DatasetDict(train=rendered["train"]), tmp_path / "out", size=48)
    with pytest.raises(ValueError, match=r"has no validation split, only train; a run needs both: label more images"):
        load_data(DataConfig(name="rendered", dir=str(tmp_path / "out")))


def test_validation_without_a_query_is_refused_before_training(rendered, tmp_path):
    gallery = rendered["validation"].filter(lambda row: set(row["roles"]) == {2})
    prepare(datasets.DatasetDict(rendered, validation=gallery), tmp_path / "out", size=48)
    with pytest.raises(ValueError, match="has no query in validation, which a run chooses its best model by"):
        load_data(DataConfig(name="rendered", dir=str(tmp_path / "out")))


def test_balanced_batches_hold_as_many_values_and_images_as_asked():
    data = load_data(DataConfig(options=OPTIONS | {"num_train": 120}))
    stage = StageConfig(sampler="balanced", batch_size=24, values_per_attribute=3, images_per_value=4)
    sampler = make_sampler(data, stage, seed=0)
    assert sampler.steps_per_epoch == 5
    plan = sampler.plan(0, 1)
    values, counts = np.unique(plan.value_ids, return_counts=True)
    assert (len(values), set(counts)) == (6, {4})
    attributes, counts = np.unique(plan.attribute_ids, return_counts=True)
    assert (len(attributes), set(counts)) == (2, {12})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "balance"}, "sampler must be one of dense, triplet, balanced, got 'balance'"),
        ({"sampler": "balanced", "batch_size": 30}, "batch_size must be a multiple of .*, 16, got 30"),
        ({"images_per_value": 1}, "images_per_value must be 2 or more"),
        ({"values_per_attribute": 1}, "values_per_attribute must be 2 or more"),
    ],
)
def test_bad_sampler_options(options, message):
    with pytest.raises(ValueError, match=message):
        StageConfig(**options)
