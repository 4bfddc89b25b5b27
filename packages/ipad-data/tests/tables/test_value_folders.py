"""Folders named after values: which trees are read, and which could mean more than one thing."""

from __future__ import annotations

import os
import shutil

import pytest

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, DataWarning, LabelFileError, load
from ipad_data.doctor import examine
from ipad_data.prepare import prepare


@pytest.fixture
def tree(tmp_path, jpeg):
    """Function that makes photos of their own content below a folder; a number in a path is that of the content."""

    def make(*paths: str):
        for number, path in enumerate(paths):
            jpeg(tmp_path / "shop" / path, (number * 7 % 256, number // 30, 0), (16, 16 + number % 7))
        return tmp_path / "shop"

    return make


def colors(prefix: str = "", count: int = 20) -> list[str]:
    return [f"{prefix}{('red', 'blue')[i % 2]}/{i}.jpg" for i in range(count)]


def test_values(tree, labels, tmp_path):
    folder = tree(*colors())
    found = load("table", folder)
    assert AttributeSchema.from_features(found["train"].features).values == {"label": ("blue", "red")}
    assert [len(found[split]) for split in ("train", "validation", "test")] == [16, 2, 2]
    assert labels(found) == {f"{i}.jpg": {f"label/{('red', 'blue')[i % 2]}"} for i in range(20)}
    named = load("table", folder, "train", label_name="color")
    assert AttributeSchema.from_features(named.features).attributes == ("color",)
    prepare(found, tmp_path / "out", size=16)
    assert labels(load("table", tmp_path / "out")) == labels(found)


def test_attributes_and_values(tree, labels):
    folder = tree(*colors("color/"), *(f"shape/{('round', 'square')[i % 2]}/{i}.jpg" for i in range(100, 120)))
    for name in ("0.jpg", "2.jpg"):
        shutil.copy(folder / "color/red" / name, folder / "shape/round" / name)  # the same photo
    found = labels(load("table", folder))
    assert len(found) == 40
    assert found["0.jpg"] == {"color/red", "shape/round"}
    assert found["100.jpg"] == {"shape/round"}
    assert AttributeSchema.from_features(load("table", folder, "train", attributes=["color"]).features).attributes == (
        "color",
    )
    with pytest.raises(LabelFileError, match="no folder 'colour'; did you mean one of: color"):
        load("table", folder, attributes=["colour"])


def test_the_same_name_for_other_content_is_another_photo(tree):
    folder = tree(*[f"{color}/{i}.jpg" for color in ("red", "blue") for i in range(10)])
    assert sum(map(len, load("table", folder).values())) == 20


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Train", "val", "test"), ("train", "valid", "test")]
)
@pytest.mark.parametrize("attribute", ["", "color/"])
def test_split_folders(tree, names, attribute):
    folder = tree(*(path for name in names for path in colors(f"{name}/{attribute}")))
    found = load("table", folder)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 20, "validation": 20, "test": 20}
    assert {row["image"]["path"].split("shop/")[1].split("/")[0] for row in found["validation"]} == {names[1]}


def test_a_photo_in_two_split_folders_is_warned_about(tree):
    folder = tree(*(path for name in ("train", "val", "test") for path in colors(f"{name}/")))
    shutil.copy(folder / "train/red/0.jpg", folder / "test/blue/0.jpg")
    with pytest.warns(DataWarning, match=r"1 photos are in more than one split, e\.g\. .*/0\.jpg and .*/0\.jpg$"):
        load("table", folder)


def test_an_outer_folder_of_images_and_hidden_files_do_not_count(tree):
    folder = tree(*colors("images/"), "images/red/._0.jpg", ".thumbnails/0.jpg", "__MACOSX/images/red/0.jpg")
    assert sum(map(len, load("table", folder).values())) == 20
    assert sum(map(len, load("table", folder.parent, images="shop/images").values())) == 20


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["loose.jpg"],
            r"expected all images in VALUE/ or all in ATTRIBUTE/VALUE/, got e\.g\. 'loose\.jpg', 'blue/1\.jpg'",
        ),
        (
            ["color/red/x.jpg"],
            r"expected all images in .*'blue/1\.jpg', 'color/red/x\.jpg'; move them, or write a table",
        ),
        (["train/red/x.jpg"], r"the folder 'train' stands for a split and 'blue' beside it does not"),
    ],
)
def test_trees_that_could_mean_more_than_one_thing(tree, more, message):
    with pytest.raises(LabelFileError, match=message):
        load("table", tree(*colors(), *more))


def test_other_trees(tree, jpeg):
    folder = tree(*colors("a/b/"))
    with pytest.raises(LabelFileError, match=r"got e\.g\. 'a/b/blue/1\.jpg'"):
        load("table", folder)
    assert sum(map(len, load("table", folder, images="a/b").values())) == 20
    shutil.rmtree(folder)
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"(?s)a table of labels, or folders .*labels\.csv.*ATTRIBUTE/VALUE"
    ):
        load("table", tree("0.jpg"))
    for i in range(3):
        jpeg(folder / "red" / f"{i}.jpg", (i * 40, 0, 0))
    (folder / "0.jpg").unlink()
    with pytest.raises(LabelFileError, match="no attribute has two values to tell apart: 'label' has 'red'"):
        load("table", folder)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights")
def test_links_out_of_the_folder(tree, tmp_path, jpeg):
    folder = tree(*colors())
    jpeg(tmp_path / "secret.jpg")
    (folder / "red" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(LabelFileError, match=r"1 links lead out of the folder, e\.g\. red/link\.jpg"):
        load("table", folder)


def test_an_added_photo_is_seen(tree, jpeg):
    folder = tree(*colors())
    load("table", folder)
    jpeg(folder / "red" / "new.jpg", (9, 9, 9))
    assert sum(map(len, load("table", folder).values())) == 21


def test_the_doctor_knows_them(tree):
    folder = tree(*colors("color/"))
    (diagnosis,) = examine(folder)
    text = str(diagnosis)
    assert (diagnosis.dataset, diagnosis.healthy) == ("table", True)
    assert "color: 20 labels, 2 of 2 values seen" in text
    assert f"ipad_data.load('table', {str(folder)!r})" in text
    (folder / "loose.jpg").write_bytes((folder / "color/red/0.jpg").read_bytes())
    (diagnosis,) = examine(folder)
    assert "cannot be read" in str(diagnosis)
    assert "expected all images in VALUE/" in str(diagnosis)
