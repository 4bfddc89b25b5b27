from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipad_data import AttributeSchema, BatchDataset, DatasetFilesNotFoundError, EntryTable, LabelFileError, load
from ipad_data.samplers import EvaluationPlans

COLORS = ("red", "green", "blue")
SHAPES = ("round", "square")


@pytest.fixture
def shop(tmp_path):
    """Folder of 60 photos with two attributes, the second labelled for every other photo."""
    folder = tmp_path / "shop"
    (folder / "images" / "söck").mkdir(parents=True)
    lines = ["file_name,color,shape"]
    for i in range(60):
        name = f"söck/p{i:02d}.jpg" if i % 5 == 0 else f"p{i:02d}.jpg"
        Image.new("RGB", (40, 30), COLORS[i % 3]).save(folder / "images" / name)
        lines.append(f"{name},{COLORS[i % 3]},{SHAPES[i // 2 % 2] if i % 2 else ''}")
    write_table(folder, lines)
    return folder


def write_table(folder: Path, lines: list[str], encoding: str = "utf-8", newline: str = "\n") -> None:
    (folder / "labels.csv").write_bytes((newline.join(lines) + newline).encode(encoding))


def read_table(folder: Path) -> list[str]:
    return (folder / "labels.csv").read_text(encoding="utf-8").splitlines()


def value_names(dataset) -> list[set[str]]:
    names = AttributeSchema.from_features(dataset.features).value_names
    return [{names[value] for value in values} for values in dataset["value_ids"]]


def test_schema_splits_and_roles(shop):
    found = load("table", shop)
    schema = AttributeSchema.from_features(found["train"].features)
    assert schema.values == {"color": ("blue", "green", "red"), "shape": ("round", "square")}
    assert [len(found[split]) for split in ("train", "validation", "test")] == [47, 7, 6]
    for split in ("validation", "test"):
        roles = np.bincount([roles[0] for roles in found[split]["roles"]], minlength=3)
        assert roles[0] == 0
        assert 1 <= roles[1] < roles[2]
        assert EntryTable.from_dataset(found[split]).value_counts[:3].min() >= 2  # each color has 20 images
    paths = [image["path"] for split in found for image in found[split]["image"]]
    assert len(set(paths)) == 60


def test_labels_follow_their_images(shop):
    batch = BatchDataset(train := load("table", shop, "train"), 8)[next(iter(EvaluationPlans(train, 48, ["train"])))]
    schema = AttributeSchema.from_features(train.features)
    for position, value in zip(batch["image_index"], batch["value_ids"], strict=True):
        attribute, name = schema.value_names[value].split("/")
        if attribute == "color":
            strongest = batch["images"][position].float().mean((1, 2)).argmax()
            assert ("red", "green", "blue")[strongest] == name


@pytest.mark.parametrize(("encoding", "newline", "delimiter"), [("utf-8-sig", "\r\n", ","), ("utf-8", "\n", ";")])
def test_byte_order_mark_line_ends_and_delimiters(shop, encoding, newline, delimiter):
    expected = load("table", shop, "train")[:]
    lines = [line.replace(",", delimiter) for line in read_table(shop)]
    write_table(shop, [*lines, ""], encoding, newline)
    assert load("table", shop, "train")[:] == expected


def test_split_and_role_columns(shop):
    lines = read_table(shop)
    splits = ["train", "train", "val", "test"]
    roles = {"train": "", "val": "query", "test": "candidate"}
    rows = [f"{line},{splits[i % 4]},{roles[splits[i % 4]]}" for i, line in enumerate(lines[1:])]
    write_table(shop, [lines[0] + ",split,role", *rows])
    with pytest.warns(
        UserWarning, match="in validation no query of color has .*; in test no query of color, shape has"
    ):
        found = load("table", shop)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [30, 15, 15]
    assert {role for roles in found["validation"]["roles"] for role in roles} == {1}
    assert {role for roles in found["test"]["roles"] for role in roles} == {2}


def test_several_values_in_a_field(shop):
    lines = [line.replace(",red,", ",red|green,") for line in read_table(shop)]
    write_table(shop, lines)
    found = value_names(load("table", shop, "train", value_separator="|", attributes=["color"]))
    assert {frozenset(names) for names in found} == {
        frozenset({"color/red", "color/green"}),
        frozenset({"color/green"}),
        frozenset({"color/blue"}),
    }


def test_schema_from_json_keeps_its_order(shop):
    (shop / "schema.json").write_text(json.dumps({"color": ["red", "green", "blue", "gold"]}), encoding="utf-8")
    train = load("table", shop, "train", schema="schema.json", attributes=["color"])
    assert AttributeSchema.from_features(train.features).values == {"color": ("red", "green", "blue", "gold")}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda lines: ["picture,color", "a.jpg,red"], {}, r"labels\.csv:1: expected a column of image names"),
        (lambda lines: lines, {"image_column": "photo"}, r"labels\.csv:1: expected a column 'photo' of image names"),
        (lambda lines: lines, {"attributes": ["colour"]}, r"no column 'colour'; did you mean one of: color"),
        (lambda lines: ["file_name", "p01.jpg"], {}, r"labels\.csv:1: expected a named column per attribute"),
        (
            lambda lines: [*lines, lines[7]],
            {},
            r"labels\.csv:62: image 'p06\.jpg' comes twice, first at .*labels\.csv:8",
        ),
        (lambda lines: [*lines, "p01.jpg,red"], {}, r"labels\.csv:62: expected 3 fields, got 2"),
        (lambda lines: [*lines, ",red,round"], {}, r"labels\.csv:62: no image name"),
        (lambda lines: [*lines, "../p.jpg,red,round"], {}, r"labels\.csv:62: image names must stay inside"),
        (lambda lines: [*lines, "/etc/passwd,red,round"], {}, r"labels\.csv:62: image names must be paths relative"),
        (lambda lines: [*lines, "C:\\p.jpg,red,round"], {}, r"labels\.csv:62: image names must be paths relative"),
        (lambda lines: lines, {"schema": {"color": ["red"]}, "attributes": ["color"]}, r"labels\.csv:3: .* no value"),
        (lambda lines: [lines[0]], {}, r"labels\.csv: holds no images"),
        (lambda lines: [""], {}, r"labels\.csv:1: expected a header"),
        (lambda lines: ["file_name,color,color"], {}, r"columns come twice: 'color'"),
        (lambda lines: ["file_name,color,split", "p01.jpg,red,dev"], {}, r"labels\.csv:2: split must be one of"),
        (
            lambda lines: ["file_name,color", "p01.jpg,"],
            {},
            r"no attribute has two values to tell apart: 'color' has none",
        ),
    ],
)
def test_bad_tables_are_named_with_their_line(shop, change, options, message):
    write_table(shop, change(read_table(shop)))
    with pytest.raises(LabelFileError, match=message):
        load("table", shop, **options)


def test_not_utf8(shop):
    write_table(shop, ["file_name,color", "pär.jpg,röd"], encoding="latin-1")
    with pytest.raises(LabelFileError, match=r"labels\.csv:2: not UTF-8 text"):
        load("table", shop)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights")
def test_symbolic_link_out_of_the_folder(shop, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    (shop / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    write_table(shop, [*read_table(shop), "link.jpg,red,round"])
    with pytest.raises(LabelFileError, match=r"labels\.csv:62: image names must stay inside"):
        load("table", shop)


def test_missing_things(shop, tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match="folder of the photos not found"):
        load("table", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="data_dir must be the folder"):
        load("table")
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)file 'other\.csv' not found.*table must name a file"):
        load("table", shop, table="other.csv")
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)folder 'photos' not found.*images must name a folder"):
        load("table", shop, images="photos")
    (shop / "notes.txt").write_text("x")
    with pytest.raises(
        LabelFileError, match=r"notes\.txt: a table must be a file of \.csv, \.tsv, \.jsonl, \.parquet"
    ):
        load("table", shop, table="notes.txt")
    (shop / "labels.csv").rename(shop / "a.csv")
    (shop / "b.csv").write_text("x")
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"(?s)a single table \(2 there: a\.csv, b\.csv\).*table=\.\.\."
    ):
        load("table", shop)
    assert load("table", shop, "train", table="a.csv").num_rows == 47


def test_missing_images_raise_or_are_skipped_with_their_count(shop):
    for name in ("p01.jpg", "p02.jpg"):
        (shop / "images" / name).unlink()
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"(?s)2 of 60 images.*labels\.csv:3: p01\.jpg.*missing='skip'"
    ):
        load("table", shop)
    with pytest.warns(UserWarning, match=r"(?s)2 of 60 images of the table .*labels\.csv are not there.*:3: p01\.jpg"):
        found = load("table", shop, missing="skip")
    assert sum(map(len, found.values())) == 58
    with pytest.raises(ValueError, match="missing must be one of raise, skip, got 'ignore'"):
        load("table", shop, missing="ignore")


def test_rare_values_warn(shop):
    lines = read_table(shop)
    lines[1] = lines[1].replace(",red,", ",gold,")
    write_table(shop, lines)
    with pytest.warns(UserWarning, match=r"values of a single image.*color/gold$"):
        load("table", shop)


def test_constant_attributes_are_left_out(shop):
    lines = read_table(shop)
    write_table(shop, [lines[0] + ",brand,season", *(line + ",acme," for line in lines[1:])])
    with (
        pytest.warns(
            UserWarning, match="'brand' has the single value 'acme', and is left out of training and evaluation"
        ),
        pytest.warns(UserWarning, match="'season' has no value, and is left out of training and evaluation"),
    ):
        found = load("table", shop)
    write_table(shop, lines)
    assert {split: rows.to_list() for split, rows in found.items()} == {
        split: rows.to_list() for split, rows in load("table", shop).items()
    }
    schema = {"color": ["red", "green", "blue"], "brand": ["acme", "other"]}
    write_table(shop, ["file_name,color,brand", *(line.rpartition(",")[0] + ",acme" for line in lines[1:])])
    with pytest.warns(UserWarning, match="'brand' has fewer than two values with images"):
        kept = load("table", shop, "train", schema=schema)  # ids must stay those of the given schema
    assert AttributeSchema.from_features(kept.features).attributes == ("color", "brand")
    write_table(shop, ["file_name,color,shape", *(line.split(",")[0] + ",red,round" for line in lines[1:])])
    with pytest.raises(LabelFileError, match=r"no attribute has two .*: 'color' has 'red', 'shape' has 'round'"):
        load("table", shop)


def test_a_column_of_ids_is_warned_about(shop):
    lines = read_table(shop)
    write_table(shop, [lines[0] + ",caption", *(f"{line},photo {i}" for i, line in enumerate(lines[1:]))])
    with (
        pytest.warns(UserWarning, match=r"'caption' has 60 values, nearly one for each image.* attributes=\[\.\.\.\]"),
        pytest.warns(UserWarning, match="values of a single image.* and 55 more"),
    ):
        load("table", shop)
    load("table", shop, attributes=["color", "shape"])


def test_cache_sees_edited_labels_and_added_images(shop, monkeypatch):
    from ipad_data.builders.table import Table

    built = []
    generate = Table._generate_examples
    monkeypatch.setattr(Table, "_generate_examples", lambda self, images: built.append(1) or generate(self, images))
    load("table", shop)
    assert len(built) == 3
    load("table", shop)
    assert len(built) == 3  # a hit
    lines = read_table(shop)
    lines[2] = lines[2].replace("green", "blue")
    write_table(shop, lines)
    assert (
        sum({"color/green"} <= names for split in load("table", shop).values() for names in value_names(split)) == 19
    )
    assert len(built) == 6
    Image.new("RGB", (8, 8)).save(shop / "images" / "new.jpg")
    load("table", shop)
    assert len(built) == 9
    monkeypatch.setattr(Table, "VERSION", "9.9.9")
    load("table", shop)
    assert len(built) == 12


BUILD = "import sys, ipad_data; print(len(ipad_data.load('table', sys.argv[1], 'train', cache_dir=sys.argv[2])))"


@pytest.mark.multiprocess
def test_two_processes_build_at_once(shop, tmp_path):
    command = [sys.executable, "-c", BUILD, str(shop), str(tmp_path / "cache")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["47", "47"]


def test_read_only_folder(shop):
    shop.chmod(0o555)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(load("table", shop, "train")) == 47
    finally:
        shop.chmod(0o755)


def test_a_split_column_alone_leaves_the_roles_to_be_drawn(shop):
    lines = read_table(shop)
    splits = ["train"] * 8 + ["valid", "test"]
    write_table(shop, [lines[0] + ",split", *(f"{line},{splits[i // 6]}" for i, line in enumerate(lines[1:]))])
    found = load("table", shop)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [48, 6, 6]
    for split in ("validation", "test"):
        assert 1 <= sum(roles[0] == 1 for roles in found[split]["roles"]) <= 2
