"""Boxes of attributes in tables and in files of their own, and boxes that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipad_data import LabelFileError, load
from ipad_data.prepare import prepare
from ipad_data.regions import as_shares, parse_boxes

BOX = [0.25, 0.5, 0.75, 1.0]


def boxes_of(dataset) -> dict[str, dict[int, list]]:
    """File name -> attribute id -> boxes."""
    return {
        Path(row["image"]["path"]).name: dict(zip(row["attribute_ids"], row["boxes"], strict=True))
        for rows in dataset.values()
        for row in rows
    }


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.parquet", "labels.csv"])
def test_boxes_of_a_table(photos, records, write, name, tmp_path):
    for i, row in enumerate(records):
        if name == "labels.csv":
            row["color_box"] = "" if i else '"0.25, 0.5 0.75;1"'
        else:
            row["boxes"] = {"color": None if i else BOX, "new": [BOX, [0.0, 0.0, 0.1, 0.2]] if i == 1 else None}
    write(photos / name, records)
    dataset = load("table", photos)
    found = boxes_of(dataset)
    assert found["p00.jpg"] == {0: [BOX], 1: []}
    assert found["p02.jpg"] == {0: [], 1: []}
    if name != "labels.csv":
        np.testing.assert_allclose(found["p01.jpg"][1], [BOX, [0.0, 0.0, 0.1, 0.2]], atol=1e-7)
    prepare(dataset, tmp_path / "out", size=16)
    assert boxes_of(load("table", tmp_path / "out")) == found


def test_a_table_without_boxes_has_no_such_column(photos, records, write):
    write(photos / "labels.jsonl", records)
    assert "boxes" not in load("table", photos, "train").column_names


def test_a_file_of_boxes_by_name_and_by_stem(photos, records, write):
    records[2]["boxes"] = {"color": [0.0, 0.0, 0.5, 0.5], "new": BOX}
    write(photos / "labels.jsonl", records)
    boxes = {"images/p00.jpg": {"color": BOX}, "p01": {"new": BOX}, "p02": {"color": BOX}, "gone": {"color": BOX}}
    (photos / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"boxes\.json: 1 of 4 photos are not in .*labels\.jsonl, e\.g\. gone"):
        found = boxes_of(load("table", photos, boxes="boxes.json"))
    assert found["p00.jpg"] == {0: [BOX], 1: []}
    assert found["p01.jpg"] == {0: [], 1: [BOX]}
    assert found["p02.jpg"] == {0: [BOX], 1: [BOX]}
    (photos / "boxes.json").write_text('{"p00": {"color": [0.5, 0, 1, 1]}}', encoding="utf-8")
    assert boxes_of(load("table", photos, boxes="boxes.json"))["p00.jpg"][0] == [[0.5, 0.0, 1.0, 1.0]]  # was seen


def test_boxes_in_pixels_are_those_of_the_photo_as_it_is_seen(photos, records, write):
    records[0]["boxes"] = {"color": [6, 8, 18, 16]}  # of 24 x 16
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: seen with 16 x 24
    Image.new("RGB", (24, 16), "green").save(photos / "images" / "p01.jpg", exif=exif)
    records[1]["boxes"] = {"color": [4, 12, 12, 24]}
    write(photos / "labels.jsonl", records)
    found = boxes_of(load("table", photos, box_format="pixels"))
    assert found["p00.jpg"][0] == found["p01.jpg"][0] == [BOX]
    records[0]["boxes"] = {"color": [6, 8, 18, 17]}
    write(photos / "labels.jsonl", records)
    with pytest.raises(LabelFileError, match=r"labels\.jsonl:1: the box .* of 'color' leaves .* 24 x 16 pixels"):
        load("table", photos, box_format="pixels")
    (photos / "images" / "p00.jpg").write_text("<html>")
    with pytest.raises(
        LabelFileError, match=r"labels\.jsonl:1: the size of a photo with boxes .*p00\.jpg: not an image"
    ):
        load("table", photos, box_format="pixels")
    with pytest.raises(ValueError, match="box_format must be one of shares, pixels, got 'xywh'"):
        load("table", photos, box_format="xywh")


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            {"color": [0.1, 0.1, 1.2, 0.5]},
            r"the box \[0\.1, 0\.1, 1\.2, 0\.5\] of 'color' leaves .*box_format='pixels'",
        ),
        ({"color": [-0.1, 0.1, 0.2, 0.5]}, "leaves the photo"),
        ({"color": [0.5, 0.1, 0.5, 0.5]}, "a box of 'color' must have x0 < x1 and y0 < y1"),
        ({"color": [0.1, 0.6, 0.5, 0.5]}, "must have x0 < x1 and y0 < y1"),
        ({"color": [0.1, 0.6, 0.5]}, "must be four numbers x0, y0, x1, y1; got"),
        ({"color": 0}, "must be four numbers"),
        ({"color": {"x": 1}}, "must be four numbers"),
        ({"color": [BOX, [0, 0]]}, r"must be four numbers .* got \[0, 0\]"),
        ({"color": "a b c d"}, "must be four numbers"),
        ({"color": "0 0 1 inf"}, "must have x0 < x1"),
        ({"colour": BOX}, "a box of 'colour', which is no attribute; did you mean one of: color"),
        ([BOX], r"boxes must be an object of attribute: box, got \[\["),
    ],
)
def test_faulty_boxes_are_named(photos, records, write, boxes, message):
    records[3]["boxes"] = boxes
    write(photos / "labels.jsonl", records)
    with pytest.raises(LabelFileError, match=rf"labels\.jsonl:4: (.* )?{message}"):
        load("table", photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"p00": {"colour": [0, 0, 1, 1]}}', r"photo 'p00': a box of 'colour'.* did you mean one of: color"),
        ('{"p00": {"color": [0, 0, 1]}}', r"photo 'p00': a box of 'color' must be four numbers"),
        ('{"p77": {"color": [0, 0, 1, 1]}}', r"1 of 1 photos are not in .*labels\.jsonl, e\.g\. p77"),
        ('{"a": {"color": [0, 0, 1, 1]}}', r"'a' may be any of images/a\.jpg, images/x/a\.jpg; call photos by their"),
        ('[{"p00": 1}]', r"expected an object \{photo: \{attribute"),
        ('{"p00": [0, 0, 1, 1]}', r"expected an object \{photo: \{attribute"),
        ('{"p00": ', "not JSON"),
    ],
)
def test_faulty_files_of_boxes_are_named(photos, records, write, jpeg, text, message):
    for name in ("a.jpg", "x/a.jpg"):
        jpeg(photos / "images" / name)
        records.append({"file_name": f"images/{name}", "color": "red"})
    write(photos / "labels.jsonl", records)
    (photos / "boxes.json").write_text(text, encoding="utf-8")
    with pytest.raises(LabelFileError, match=rf"boxes\.json:?\d*: {message}"):
        load("table", photos, boxes="boxes.json")


def test_columns_of_boxes_need_their_attribute(photos, records, write):
    for row in records:
        row["colour_box"] = "0 0 1 1"
    path = write(photos / "labels.csv", records)
    with pytest.raises(
        LabelFileError, match=r"labels\.csv:1: column 'colour_box' holds boxes of 'colour', which is no .* color"
    ):
        load("table", photos)
    with pytest.raises(LabelFileError, match="did you mean one of: color"):
        load("table", photos, attributes=["color", "new"])
    path.write_text(path.read_text().replace("colour_box", "mail_box"))
    with pytest.raises(LabelFileError, match=r"'mail'.* If it is an attribute itself.* attributes=\[\.\.\.\]"):
        load("table", photos)
    assert "boxes" not in load("table", photos, "train", attributes=["color", "new"]).column_names


def test_parsing_and_scaling():
    assert parse_boxes({"a": "1 2 3 4", "b": None, "c": [], "d": [[1, 2, 3, 4], [5, 6, 7, 8]]}, "abcd") == {
        "a": [(1.0, 2.0, 3.0, 4.0)],
        "d": [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)],
    }
    assert as_shares({"a": [(1.0, 2.0, 3.0, 4.0)]}, (4, 4)) == {"a": [(0.25, 0.5, 0.75, 1.0)]}
    assert as_shares({"a": [(0.0, 0.0, 1.0000001, 1.0)]}, None) == {"a": [(0.0, 0.0, 1.0, 1.0)]}
