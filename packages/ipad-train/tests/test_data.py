from __future__ import annotations

import datasets
import pytest

import ipad_data
from ipad_data.prepare import prepare
from ipad_train.config import DataConfig
from ipad_train.data import load_data

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
