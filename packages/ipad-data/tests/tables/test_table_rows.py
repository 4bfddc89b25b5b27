"""Splits and roles that tables give, and image names in several spellings."""

from __future__ import annotations

import pytest

from ipad_data import DataWarning, LabelFileError, load


def with_oml(records: list[dict]) -> list[dict]:
    """The records with the columns of open-metric-learning: ten images in each split, every third held-out one a query."""
    for i, row in enumerate(records):
        row["split"] = ("train", "validation", "test")[i // 10]
        row["is_query"] = "" if i < 10 else str(i % 3 == 0)
        row["is_gallery"] = "" if i < 10 else str(i % 3 != 0)
    return records


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.parquet"])
def test_flags_of_open_metric_learning_are_roles(photos, records, write, name):
    write(photos / name, with_oml([{**row, "color": "red" if i % 2 else "blue"} for i, row in enumerate(records)]))
    found = load("table", photos)
    assert found["train"].features["attribute_ids"].feature.names == ["color", "new"]
    assert [len(rows) for rows in found.values()] == [10, 10, 10]
    for split in ("validation", "test"):
        for row in found[split]:
            number = int(row["image"]["path"][-6:-4])
            assert set(row["roles"]) == {1 if number % 3 == 0 else 2}


def test_one_flag_is_enough(photos, records, write):
    rows = with_oml([{**row, "color": "red" if i % 2 else "blue"} for i, row in enumerate(records)])
    write(photos / "labels.csv", rows)
    expected = load("table", photos)["test"]["roles"]
    for flag in ("is_query", "is_gallery"):
        write(photos / "labels.csv", [{k: v for k, v in row.items() if k != flag} for row in rows])
        assert load("table", photos)["test"]["roles"] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"is_query": "True", "is_gallery": "True"},
            r"labels\.csv:16: is_query and is_gallery: one .* true, got both",
        ),
        ({"is_query": "False", "is_gallery": "0"}, r"labels\.csv:16: .* got neither"),
        ({"is_query": "perhaps"}, r"labels\.csv:16: is_query must be true or false, got 'perhaps'"),
    ],
)
def test_faulty_flags(photos, records, write, change, message):
    rows = with_oml(records)
    rows[14].update(change)
    write(photos / "labels.csv", rows)
    with pytest.raises(LabelFileError, match=message):
        load("table", photos)


def test_a_column_of_splits_in_other_letters_and_a_role_of_a_training_image(photos, write):
    rows = [{"file_name": f"images/p{i:02d}.jpg", "c": "xy"[i % 2], "Split": "train"} for i in range(20)]
    write(photos / "labels.csv", rows)
    with pytest.raises(LabelFileError, match=r"labels\.csv:1: column 'Split' must be called 'split' to give splits"):
        load("table", photos)
    rows = [{"file_name": row["file_name"], "c": row["c"], "split": "train", "role": "query"} for row in rows]
    write(photos / "labels.csv", rows)
    with pytest.raises(LabelFileError, match=r"labels\.csv:2: role must be empty for .* train, got 'query'"):
        load("table", photos)


@pytest.mark.parametrize("columns", [{"role": "train"}, {"is_query": "false", "is_gallery": "false"}])
def test_training_images_may_say_that_they_are_neither_query_nor_gallery(photos, records, write, columns):
    roles = {
        "role": [{"role": "query"}, {"role": "gallery"}],
        "is_query": [{"is_query": "true", "is_gallery": "false"}, {"is_query": "false", "is_gallery": "true"}],
    }[next(iter(columns))]
    rows = [
        {
            "file_name": row["file_name"],
            "c": "xy"[i % 2],
            "split": "train" if i < 8 else ("validation", "test")[i // 14],
        }
        | (columns if i < 8 else roles[i // 2 % 2])
        for i, row in enumerate(records[:20])
    ]
    write(photos / "labels.csv", rows)
    assert load("table", photos)["train"].num_rows == 8
    rows[12].update({"role": "train"} if "role" in columns else {"is_query": "false", "is_gallery": "false"})
    write(photos / "labels.csv", rows)
    with pytest.raises(LabelFileError, match=r"labels\.csv:14: (role must be one of|is_query and is_gallery)"):
        load("table", photos)


def test_a_seed_that_is_no_number(photos):
    with pytest.raises(ValueError, match="seed must be a whole number of 0 or more, got '1'"):
        load("table", photos, seed="1")


@pytest.mark.parametrize("column", ["role", "is_query"])
def test_roles_need_splits(photos, records, write, column):
    write(photos / "labels.csv", [{**row, column: "true"} for row in records])
    with pytest.raises(
        LabelFileError, match=rf"labels\.csv:1: column '{column}' gives roles, which need a column 'split'"
    ):
        load("table", photos)


def test_roles_in_two_ways(photos, records, write):
    write(photos / "labels.csv", [{**row, "role": "query"} for row in with_oml(records)])
    with pytest.raises(
        LabelFileError, match=r"columns 'role', 'is_query', 'is_gallery' all give roles; leave out 'role'"
    ):
        load("table", photos)


def test_a_column_called_role_may_be_an_attribute(photos, records, write):
    write(photos / "labels.csv", [{**row, "role": ("lead", "extra")[i % 2]} for i, row in enumerate(records)])
    found = load("table", photos, attributes=["role"])
    assert found["train"].features["value_ids"].feature.names == ["role/extra", "role/lead"]


@pytest.mark.parametrize("spelling", ["./images/p00.jpg", "images//p00.jpg", "images\\p00.jpg", "images/./p00.jpg"])
@pytest.mark.parametrize("missing", [False, True])
def test_an_image_in_two_spellings_comes_twice(photos, records, write, spelling, missing):
    write(photos / "labels.csv", [*records, {**records[1], "file_name": spelling}])
    if missing:
        (photos / "images" / "p00.jpg").unlink()
    with pytest.raises(LabelFileError, match=r"labels\.csv:32: image .* comes twice, first at .*labels\.csv:2"):
        load("table", photos, missing="skip")


def test_the_spelling_does_not_move_an_image(photos, records, write):
    write(photos / "labels.csv", records)
    expected = {row["image"]["path"]: split for split, rows in load("table", photos).items() for row in rows}
    write(photos / "labels.csv", [{**row, "file_name": f"./{row['file_name']}"} for row in records])
    assert {row["image"]["path"]: split for split, rows in load("table", photos).items() for row in rows} == expected


def test_images_without_a_label_are_counted(photos, records, write):
    for i in (3, 4):
        records[i].update(color="", new="")
    write(photos / "labels.csv", records)
    with pytest.warns(
        DataWarning, match=r"2 of 30 images have no label .* left out: images/p03\.jpg, images/p04\.jpg$"
    ):
        assert sum(load("table", photos).num_rows.values()) == 28
