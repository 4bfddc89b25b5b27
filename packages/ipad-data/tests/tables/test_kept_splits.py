"""Splits that are written out and kept when photos are added."""

from __future__ import annotations

import csv

import pytest
from click.testing import CliRunner

from ipad_data import DataWarning, LabelFileError, load
from ipad_data.cli import main
from ipad_data.split_export import export_splits


def places(dataset) -> dict[str, tuple]:
    return {row["image"]["path"]: (split, row["roles"][0]) for split, rows in dataset.items() for row in rows}


def test_exported_splits_are_kept_whatever_the_seed(photos, records, write, jpeg):
    write(photos / "labels.csv", records)
    expected = places(load("table", photos, seed=3))
    result = CliRunner().invoke(main, ["splits", "table", str(photos), "--out", str(photos), "-o", "seed=3"])
    assert result.exit_code == 0, result.output
    assert places(load("table", photos, splits="splits.csv")) == expected
    jpeg(photos / "images" / "new.jpg")
    write(photos / "labels.csv", [*records, {"file_name": "images/new.jpg", "color": "red", "new": True}])
    found = places(load("table", photos, splits="splits.csv", seed=9))
    assert expected.items() < found.items()
    assert len(found) == 31


def test_the_file_is_plain(photos, records, write):
    write(photos / "labels.csv", records)
    (path,) = export_splits("table", photos, photos / "kept")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file_name"] for row in rows} == {row["file_name"] for row in records}
    assert {(row["split"], row["role"]) for row in rows} == {
        ("train", ""),
        ("validation", "query"),
        ("validation", "gallery"),
        ("test", "query"),
        ("test", "gallery"),
    }


def test_photos_that_are_gone_are_said(photos, records, write):
    write(photos / "labels.csv", records)
    export_splits("table", photos, photos)
    write(photos / "labels.csv", records[1:])
    with pytest.warns(
        DataWarning, match=r"splits\.csv: 1 of 30 images are not in .*labels\.csv, e\.g\. images/p00\.jpg"
    ):
        load("table", photos, splits="splits.csv")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file_name,split", "images/p00.jpg,train"], r"splits\.csv:1: expected columns file_name, split, role, got"),
        (
            ["file_name,split,role", "images/p00.jpg,dev,"],
            r"splits\.csv:2: expected train without a role.* split 'dev'",
        ),
        (["file_name,split,role", "images/p00.jpg,train,query"], r"splits\.csv:2: expected train without a role"),
        (["file_name,split,role", "images/p00.jpg,test,train"], r"splits\.csv:2: .* and role 'train'"),
        (
            ["file_name,split,role", "images/p00.jpg,test,", "./images/p00.jpg,train,"],
            r"splits\.csv:3: image .* comes twice",
        ),
        (["file_name,split,role", ",test,"], r"splits\.csv:2: no image name in column 'file_name'"),
        (["file_name,split,role"], r"splits\.csv: holds no images"),
        (["file_name,split,role", "other.jpg,test,"], r"splits\.csv: 1 of 1 images are not in .*labels\.csv"),
    ],
)
def test_faulty_files(photos, records, write, lines, message):
    write(photos / "labels.csv", records)
    (photos / "splits.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(LabelFileError, match=message):
        load("table", photos, splits="splits.csv")


def test_a_table_with_splits_of_its_own(photos, records, write):
    write(photos / "labels.csv", records)
    export_splits("table", photos, photos)
    write(photos / "labels.csv", [{**row, "split": ("train", "test", "val")[i % 3]} for i, row in enumerate(records)])
    with pytest.raises(
        LabelFileError, match=r"labels\.csv: gives splits itself; load it without splits='splits\.csv'"
    ):
        load("table", photos, splits="splits.csv")


def test_a_file_of_splits_is_not_taken_for_the_table(photos, records, write):
    write(photos / "shop.csv", records)
    (photos / "splits.csv").write_text("file_name,split,role\nimages/p00.jpg,train,\n", encoding="utf-8")
    assert sum(load("table", photos).num_rows.values()) == 30
