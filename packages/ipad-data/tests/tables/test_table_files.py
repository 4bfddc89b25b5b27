"""CSV, JSON lines and Parquet tables, in the places in which people keep them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, LabelFileError, load
from ipad_data.prepare import prepare


@pytest.mark.parametrize(
    "name", ["metadata.csv", "metadata.jsonl", "metadata.parquet", "labels.jsonl", "shop.parquet", "shop.tsv"]
)
def test_every_format_gives_the_same_rows(photos, records, write, labels, name):
    write(photos / name, records)
    found = load("table", photos)
    assert AttributeSchema.from_features(found["train"].features).values == {
        "color": ("blue", "green", "red"),
        "new": ("false", "true"),
    }
    assert [len(found[split]) for split in ("train", "validation", "test")] == [26, 2, 2]
    assert labels(found) == {
        row["file_name"].removeprefix("images/"): {f"color/{row['color']}", f"new/{str(row['new']).lower()}"}
        for row in records
    }


def test_names_of_tables_have_an_order(photos, records, write, labels):
    write(photos / "other.csv", [{"file_name": "images/p00.jpg"}])
    write(photos / "train" / "metadata.jsonl", [{"file_name": "../nowhere"}])
    write(photos / "metadata.parquet", records)
    assert len(labels(load("table", photos))) == 30
    write(photos / "labels.csv", records[:20])
    assert len(labels(load("table", photos))) == 20
    assert len(labels(load("table", photos, table="metadata.parquet"))) == 30
    write(photos / "labels.jsonl", records)
    with pytest.raises(DatasetFilesNotFoundError, match=r"a single table \(2 there: labels\.csv, labels\.jsonl\)"):
        load("table", photos)


def test_tables_in_split_folders_give_the_splits(tmp_path, jpeg, write, labels):
    folders = {"train": "metadata.csv", "val": "metadata.jsonl", "test": "metadata.parquet"}
    for number, (folder, name) in enumerate(folders.items()):
        rows = []
        for i in range(8):
            jpeg(tmp_path / "d" / folder / "photos" / f"{number}{i}.jpg")
            rows.append({"file_name": f"photos/{number}{i}.jpg", "size": ("s", "m")[i % 2]})
        write(tmp_path / "d" / folder / name, rows)
    found = load("table", tmp_path / "d")
    assert {split: len(rows) for split, rows in found.items()} == {"train": 8, "validation": 8, "test": 8}
    assert {row["image"]["path"].split("/")[-3] for row in found["validation"]} == {"val"}
    assert {role for roles in found["test"]["roles"] for role in roles} == {1, 2}
    rows = [{"file_name": "photos/00.jpg", "size": "s", "split": "test"}]
    write(tmp_path / "d" / "train" / "metadata.csv", rows)
    with pytest.raises(LabelFileError, match=r"metadata\.csv:2: the folder 'train' stands for train, .* says test"):
        load("table", tmp_path / "d")


def test_split_folders_without_a_test_set(photos, records, write):
    (photos / "images").rename(photos / "train")
    write(photos / "train" / "metadata.jsonl", [{**row, "file_name": row["file_name"][7:]} for row in records])
    with pytest.warns(
        UserWarning, match="no images for the given split of validation and test; splits are drawn where"
    ):
        assert load("table", photos).keys() == {"train"}


def test_cells_of_json_lines(photos, records, write, labels):
    rows = [{**row, "sizes": ["s", "m"], "number": 1.0, "price": 2.5, "note": None} for row in records]
    rows[0] |= {"sizes": [], "number": 2, "price": None, "note": " x "}
    rows[1] |= {"sizes": "l|xl", "note": "y"}
    del rows[2]["color"]
    write(photos / "labels.jsonl", rows)
    with (
        pytest.warns(UserWarning, match="single image"),
        pytest.warns(UserWarning, match="'price' has the single value"),
    ):
        found = labels(load("table", photos, value_separator="|"))
    assert found["p00.jpg"] == {"color/red", "new/false", "number/2", "note/x"}
    assert found["p01.jpg"] == {"color/green", "new/true", "sizes/l", "sizes/xl", "number/1", "note/y"}
    assert found["p02.jpg"] == {"new/false", "sizes/s", "sizes/m", "number/1"}


def test_cells_of_parquet(photos, records, write, labels):
    frame = pd.DataFrame(records)
    frame["number"] = [np.nan, *([1, 2] * 15)[:29]]  # gaps make pandas write floats
    frame["color"] = frame["color"].astype("category")
    frame.to_parquet(photos / "metadata.parquet")
    found = labels(load("table", photos))
    assert found["p00.jpg"] == {"color/red", "new/false"}
    assert found["p01.jpg"] == {"color/green", "new/true", "number/1"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"file_name": "a.jpg", "color": "red"}', "", "{"], r"labels\.jsonl:3: not JSON"),
        (['["a.jpg", "red"]'], r"labels\.jsonl:1: expected a JSON object on each line, got '\[\"a\.jpg"),
        (['{"file_name": "a.jpg", "color": {"name": "red"}}'], r"labels\.jsonl:1: 'color' must be text.*\{'name'"),
        (['{"file_name": "a.jpg", "color": [["red"]]}'], r"labels\.jsonl:1: 'color' must be text, .*attributes=\["),
        (['{"file_name": "a.jpg", "color": NaN}'], r"labels\.jsonl:1: .*NaN is no JSON number"),
        (['{"file_name": "a.jpg", "color": "a", "color": "b"}'], r"labels\.jsonl:1: .*key 'color' comes twice"),
        (['{"file_name": 7, "color": "red"}'], r"labels\.jsonl:1: no image name in column 'file_name', got 7"),
        (['{"file_name": "a.jpg", "color": "red"}', '{"color": "red"}'], r"labels\.jsonl:2: no image name"),
        (['{"file_name": "a.jpg", "color": "red"}'] * 2, r"labels\.jsonl:2: image 'a\.jpg' comes twice, .*:1"),
        (['{"file_name": "a.jpg", "color": "red", "split": 3}'], r"labels\.jsonl:1: split must be one of .*got 3"),
        (['{"picture": "a.jpg", "color": "red"}'], r"labels\.jsonl: expected a column of image names \(file_name"),
        (['{"file_name": "a.jpg"}'], r"labels\.jsonl: expected a named column per attribute"),
        ([""], r"labels\.jsonl: expected a column of image names"),
        (["[" * 100_000], r"labels\.jsonl:1: not JSON"),
    ],
)
def test_faulty_json_lines_are_named(photos, lines, message):
    (photos / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(LabelFileError, match=message):
        load("table", photos)


def test_faulty_parquet_is_named(photos, records, write):
    path = write(photos / "labels.parquet", [*records, {"file_name": "p.jpg", "color": None, "new": None}] * 2)
    with pytest.raises(LabelFileError, match=r"labels\.parquet: row 32: image .* comes twice, first at .*: row 1$"):
        load("table", photos)
    write(path, [{"file_name": {"path": "a.jpg", "bytes": b"x"}, "color": "red"}])
    with pytest.raises(LabelFileError, match=r"row 1: no image name in column 'file_name', got \{'path': 'a\.jpg'"):
        load("table", photos)
    content = write(path, records).read_bytes()
    for damaged in (content[:-20], content[: len(content) // 2], b"", b"PAR1" + content[200:], b"<html>"):
        path.write_bytes(damaged)
        with pytest.raises(LabelFileError, match=r"labels\.parquet: not a Parquet file that can be read"):
            load("table", photos)


def test_an_unclosed_quote_is_named_where_it_begins(photos, records, write):
    path = write(photos / "labels.csv", records)
    lines = path.read_text(encoding="utf-8").splitlines()
    for cell in ('images/p05.jpg,"red,false', '"images/p05.jpg,red,false'):
        path.write_text("\n".join([*lines[:6], cell, *lines[7:]]), encoding="utf-8")
        with pytest.raises(
            LabelFileError, match=r"labels\.csv:7: not a CSV row, which begins here; is a quote not closed\?"
        ):
            load("table", photos)


def test_rows_of_several_lines_are_named_by_their_first(photos, records, write):
    path = write(photos / "labels.csv", records)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, '"images/\n\nx.jpg",red,true', "images/p00.jpg,red,true"]), encoding="utf-8")
    with pytest.raises(LabelFileError, match=r"labels\.csv:35: image 'images/p00\.jpg' comes twice, first at .*:2"):
        load("table", photos)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_utf_16_with_and_without_mark(photos, records, write, name, encoding):
    path = write(photos / name, records)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    with pytest.raises(
        LabelFileError, match=rf"{name}:1: not .*UTF-8|{name}:1: a NUL character, as in UTF-16 text; save"
    ):
        load("table", photos)


def test_every_format_can_be_prepared(photos, records, write, tmp_path, labels):
    write(photos / "metadata.jsonl", records)
    dataset = load("table", photos)
    prepare(dataset, tmp_path / "out", size=16)
    assert labels(load("table", tmp_path / "out")) == labels(dataset)


def test_an_edited_table_is_seen(photos, records, write, labels):
    write(photos / "metadata.jsonl", records)
    load("table", photos)
    records[0]["color"] = "blue"
    write(photos / "metadata.jsonl", records)
    assert labels(load("table", photos))["p00.jpg"] == {"color/blue", "new/false"}
    assert json.loads((photos / "metadata.jsonl").read_text().splitlines()[0])["color"] == "blue"
