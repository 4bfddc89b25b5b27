"""Clothing Co-Parsing as its repository is downloaded: tags, pixels, boxes, splits, and what may be wrong with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import savemat

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, LabelFileError, load
from ipad_data.ccp_files import IMAGE_LEVEL, LABEL_LIST, PIXEL_LEVEL, SCHEMA, TAGS, read_ccp
from ipad_data.cli import main
from ipad_data.doctor import examine
from ipad_data.prepare import prepare
from ipad_data.splits import random_splits

from ..trees import CCP_LABELS, write_tags

RARE = "ignore:values of a single image"  # sixty photos have few of everything
pytestmark = pytest.mark.filterwarnings(RARE, "ignore:.*no query of", "ignore:attribute .* has fewer than two values")


def rows_of(dataset) -> dict[str, dict]:
    """Number of each photo -> its row, with the split and with the values by name."""
    found = {}
    for split, rows in dataset.items():
        names = AttributeSchema.from_features(rows.features).value_names
        for row in rows:
            number = Path(row["image"]["path"]).stem
            found[number] = {**row, "split": split, "values": [names[value] for value in row["value_ids"]]}
    return found


def row_of(folder: Path, number: str):
    return next(row for row in read_ccp(folder).rows if Path(row.image).stem == number)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["skirt", "hat", "hair"], {"lower_body": "skirt", "headwear": "hat"}),
        (["skirt", "pants", "scarf"], {"scarf": "scarf"}),  # two of an attribute: not known which
        (["leggings"], {"lower_body": "leggings", "legwear": "leggings"}),
        (["glasses", "sunglasses"], {"eyewear": None}),
        (["hair", "watch"], {}),
    ],
)
def test_values_of_tags(ccp_tree, tags, expected):
    tree = ccp_tree(2)
    write_tags(tree.folder / IMAGE_LEVEL / "0002.mat", tags)
    none = {"eyewear": "none", "headwear": "none", "belt": "none", "scarf": "none"}
    values = {attribute: value for attribute, value in {**none, **expected}.items() if value}
    row = row_of(tree.folder, "0002")
    assert row.values == {attribute: (value,) for attribute, value in values.items()}
    assert list(row.values) == [attribute for attribute in TAGS if attribute in values]
    assert row.regions.subject is None


def test_values_and_boxes_of_pixels(ccp_tree):
    folder = ccp_tree(2).folder
    savemat(folder / PIXEL_LEVEL / "0001.mat", {"groundtruth": coat_jacket_sunglasses()})
    row = row_of(folder, "0001")
    assert row.values == {
        "outerwear": ("coat",),
        "eyewear": ("sunglasses",),
        "headwear": ("none",),
        "belt": ("none",),
        "scarf": ("none",),
    }
    assert row.regions.boxes == {
        "outerwear": [(0.25, 0.25, 0.75, 0.75)],
        "eyewear": [(0.5, 0.125, 28 / 48, 0.1875)],
    }
    person = 24 * 32 + 4 * 4 + 15
    assert row.regions.chance == pytest.approx({"outerwear": 24 * 32 / person, "eyewear": 16 / person})
    assert row.regions.subject == (0.0, 0.0, 0.75, 0.75)
    savemat(folder / PIXEL_LEVEL / "0001.mat", {"groundtruth": coat_jacket_sunglasses(jacket=16)})
    assert "outerwear" not in row_of(folder, "0001").values  # from 16 pixels on it is a jacket


def coat_jacket_sunglasses(jacket: int = 15) -> np.ndarray:
    pixels = np.zeros((64, 48), dtype=np.uint8)
    pixels[16:48, 12:36] = CCP_LABELS.index("coat")
    pixels[8:12, 24:28] = CCP_LABELS.index("sunglasses")
    pixels[0, :jacket] = CCP_LABELS.index("jacket")
    return pixels


def test_rows_carry_boxes_subject_and_chance_also_when_prepared(ccp_tree, tmp_path):
    dataset = load("ccp", ccp_tree().folder)
    assert AttributeSchema.from_features(dataset["train"].features) == SCHEMA
    found = rows_of(dataset)
    assert len(found) == 60
    for number, row in found.items():
        annotated = int(number) % 2 == 1
        assert bool(row["subject"]) == annotated
        for value, boxes, chance in zip(row["values"], row["boxes"], row["box_chance"], strict=True):
            assert len(boxes) == (annotated and not value.endswith("/none"))
            assert (0 < chance <= 1) if boxes else chance == 0
            for x0, y0, x1, y1 in boxes:
                assert row["subject"][0] <= x0 < x1 <= row["subject"][2]
                assert row["subject"][1] <= y0 < y1 <= row["subject"][3]
    out = prepare(dataset, tmp_path / "out", size=32).out
    again = load("ccp", out)
    assert again["train"].features == dataset["train"].features
    for split in dataset:
        assert again[split].remove_columns("image").to_list() == dataset[split].remove_columns("image").to_list()
        assert list(load("ccp", out, split, streaming=True).remove_columns("image")) == (
            dataset[split].remove_columns("image").to_list()
        )


def test_the_splits_are_drawn_over_all_annotations(ccp_tree):
    folder = ccp_tree().folder
    rows = read_ccp(folder).rows
    pairs = [
        [(SCHEMA.attribute_id(name), SCHEMA.value_id(name, value)) for name, (value,) in row.values.items()]
        for row in rows
    ]
    labels = ([[pair[k] for pair in found] for found in pairs] for k in (0, 1))
    drawn = random_splits([Path(row.image).stem for row in rows], *labels, seed=1)
    found = rows_of(load("ccp", folder, seed=1))
    assert {number: row["split"] for number, row in found.items()} == {
        image.name: split for split, images in drawn.items() for image in images
    }
    assert rows_of(load("ccp", folder, seed=0)) != found


def test_photos_in_which_nothing_is_annotated_are_left_out(ccp_tree):
    folder = ccp_tree().folder
    savemat(folder / PIXEL_LEVEL / "0005.mat", {"groundtruth": np.zeros((64, 48), dtype=np.uint8)})
    write_tags(folder / IMAGE_LEVEL / "0006.mat", [])
    with pytest.warns(
        UserWarning, match=r"2 of 60 images have no label and are left out: photos/0005\.jpg, photos/0006\.jpg"
    ):
        found = rows_of(load("ccp", folder))
    assert len(found) == 58
    assert not {"0005", "0006"} & found.keys()


def test_missing_photos_and_annotations(ccp_tree):
    folder = ccp_tree().folder
    (folder / PIXEL_LEVEL / "0009.mat").rename(folder / "0009.mat")
    with pytest.warns(UserWarning, match="1 of 60 photos and annotations .* were skipped"):
        everything = rows_of(load("ccp", folder, missing="skip"))
    assert "0009" not in everything
    (folder / "photos" / "0007.jpg").unlink()
    with pytest.raises(DatasetFilesNotFoundError) as caught:
        load("ccp", folder)
    message = str(caught.value)
    assert message.startswith("2 of 60 photos and annotations of Clothing Co-Parsing not found.")
    assert f"{folder / PIXEL_LEVEL / '0007.mat'}: photos/0007.jpg" in message
    assert f"{folder / 'photos' / '0009.jpg'}: {IMAGE_LEVEL}/0009.mat" in message
    assert "git clone https://github.com/bearpaw/clothing-co-parsing" in message
    assert message.endswith("missing='skip' goes on without them.")
    with pytest.warns(UserWarning, match="2 of 60 photos and annotations .* were skipped"):
        rest = rows_of(load("ccp", folder, missing="skip"))
    del everything["0007"]
    assert rest == everything  # the others kept their splits, roles and ids
    for photo in (folder / "photos").iterdir():
        photo.unlink()
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)59 of 59 photos .*(?<!without them\.)$"):
        load("ccp", folder, missing="skip")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "not a MATLAB file, or damaged"),
        (lambda path: path.write_bytes(b""), "not a MATLAB file, or damaged"),
        (lambda path: path.write_bytes(b"<html>404</html>" * 20), "not a MATLAB file, or damaged"),
        (
            lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)),
            "a MATLAB file of version 7.3, which SciPy does not read; save it with -v7",
        ),
        (
            lambda path: savemat(path, {"pixels": np.zeros((64, 48), np.uint8)}),
            "expected a matrix 'groundtruth', got pixels",
        ),
        (lambda path: savemat(path, {}), "expected a matrix 'groundtruth', got none"),
        (lambda path: savemat(path, {"groundtruth": np.full((64, 48), 0.5)}), "stored as uint8, got float64"),
        (lambda path: savemat(path, {"groundtruth": np.ones((64, 48), np.int16)}), "stored as uint8, got int16"),
        (
            lambda path: savemat(path, {"groundtruth": np.zeros((64, 47), np.uint8)}),
            "'groundtruth' must be a matrix of 64 x 48 numbers, got 64 x 47 numbers",
        ),
        (lambda path: savemat(path, {"groundtruth": np.zeros((64, 48, 2), np.uint8)}), "got 64 x 48 x 2 numbers"),
        (lambda path: savemat(path, {"groundtruth": np.full((64, 48), "a", object)}), "got 64 x 48 cells"),
        (
            lambda path: savemat(path, {"groundtruth": np.full((64, 48), 200, np.uint8)}),
            f"label 200 is not in label_list.mat, which has 0 to {len(CCP_LABELS) - 1}",
        ),
    ],
)
def test_faulty_annotations_are_named(ccp_tree, damage, message):
    path = ccp_tree(10).folder / PIXEL_LEVEL / "0003.mat"
    damage(path)
    with pytest.raises(LabelFileError, match=rf"^{path}: .*{message}"):
        load("ccp", path.parents[2])


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (np.array([[0, 200]], np.uint8), "label 200 is not in label_list.mat"),
        (np.array([[0], [1]], np.uint8), "'tags' must be a matrix of 1 x 1 to 256 numbers, got 2 x 1 numbers"),
        (np.zeros((0, 0), np.uint8), "got 0 x 0 numbers"),
        (np.array([[0.0, 1.5]]), "stored as uint8, got float64"),
    ],
)
def test_faulty_tags_are_named(ccp_tree, tags, message):
    path = ccp_tree(10).folder / IMAGE_LEVEL / "0002.mat"
    savemat(path, {"tags": tags})
    with pytest.raises(LabelFileError, match=rf"^{path}: .*{message}"):
        load("ccp", path.parents[2])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (CCP_LABELS[1:], r"must hold names, 'null' first; got \['hair'"),
        ([*CCP_LABELS[:4], 5, *CCP_LABELS[4:]], "a cell that holds no text"),
        (CCP_LABELS[:-3], "'label_list' lacks wallet, wedges"),
    ],
)
def test_faulty_lists_of_labels_are_named(ccp_tree, names, message):
    path = ccp_tree(10).folder / LABEL_LIST
    savemat(path, {"label_list": np.array([names], dtype=object)})
    with pytest.raises(LabelFileError, match=rf"^{path}: .*{message}"):
        load("ccp", path.parent)


@pytest.mark.parametrize(("at", "value"), [(176, 99), (176, 14), (177, 47), (160, 3), (166, 1)])
def test_what_would_end_scipy_is_an_error(ccp_tree, at, value):
    """Types that do not exist and sides that are longer than the data, without compression and its checksum."""
    path = ccp_tree(10).folder / IMAGE_LEVEL / "0002.mat"
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    with pytest.raises(LabelFileError, match=rf"^{path}: not a MATLAB file, or damaged"):
        load("ccp", path.parents[2])


def test_parts_that_are_not_there(ccp_tree, tmp_path):
    folder = ccp_tree(4).folder
    for part, what in ((LABEL_LIST, "list of labels"), ("photos", "folder of photos"), ("annotations", "annotations")):
        (folder / part).rename(tmp_path / "away")
        with pytest.raises(
            DatasetFilesNotFoundError, match=rf"(?s){what} of Clothing Co-Parsing not found.*git clone"
        ):
            load("ccp", folder)
        (diagnosis,) = examine(folder, "ccp")
        assert not diagnosis.healthy
        assert f"{what} of Clothing Co-Parsing not found" in str(diagnosis)
        (tmp_path / "away").rename(folder / part)
    with pytest.raises(DatasetFilesNotFoundError, match=r"folder of photos .*"):
        load("ccp", tmp_path / "nowhere")


def test_without_scipy(ccp_tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    folder = ccp_tree(4).folder
    with pytest.raises(ImportError, match=r"SciPy: pip install 'ipad-data\[ccp\]'"):
        load("ccp", folder)
    result = CliRunner().invoke(main, ["doctor", str(folder)])
    assert (result.exit_code, "ipad-data[ccp]" in result.output) == (1, True)
    result = CliRunner().invoke(main, ["prepare", "ccp", str(folder), "--out", str(folder / "out")])
    assert result.output.splitlines()[-1].startswith("Error: MATLAB files are read with SciPy")


def test_an_unreadable_photo_is_found_where_images_are_read(ccp_tree):
    folder = ccp_tree().folder
    (folder / "photos" / "0001.jpg").write_text("<html>")
    assert len(rows_of(load("ccp", folder))) == 60
    (diagnosis,) = examine(folder)
    assert "1 of them unreadable" in str(diagnosis)


def test_an_edited_annotation_is_seen(ccp_tree):
    folder = ccp_tree().folder
    before = rows_of(load("ccp", folder))["0002"]["values"]
    write_tags(folder / IMAGE_LEVEL / "0002.mat", ["cape", "hat"])
    after = rows_of(load("ccp", folder))["0002"]["values"]
    assert before != after == ["outerwear/cape", "eyewear/none", "headwear/hat", "belt/none", "scarf/none"]


def test_the_doctor_knows_it(ccp_tree):
    folder = ccp_tree().folder
    (diagnosis,) = examine(folder)
    text = str(diagnosis)
    assert (diagnosis.dataset, diagnosis.healthy, diagnosis.images) == ("ccp", True, 60)
    assert "[x] annotations/pixel-level/*.mat" in text
    assert "ccp: 60 of 60 images found (100.0 %)" in text
    assert "lower_body: 60 labels" in text
    assert "30 images have boxes" in text
    assert f"ipad_data.load('ccp', {str(folder)!r})" in text
    (folder / "photos" / "0003.jpg").unlink()
    (diagnosis,) = examine(folder.parent)
    assert "missing: photos/0003.jpg" in str(diagnosis)
    assert f"ipad_data.load('ccp', {str(folder)!r}, missing='skip')" in str(diagnosis)


@pytest.mark.skipif("IPAD_CCP" not in os.environ, reason="name the folder of the real repository with IPAD_CCP")
def test_the_real_repository(tmp_path):
    with pytest.warns(UserWarning, match=r"nothing is annotated in them: 1 \(0536\)"):
        dataset = load("ccp", os.environ["IPAD_CCP"], cache_dir=tmp_path)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 1677, "validation": 210, "test": 210}
    found = rows_of(dataset)
    assert sum(bool(row["subject"]) for row in found.values()) == 1003
    assert sum(len(boxes) for row in found.values() for boxes in row["boxes"]) == 4651
    assert "outerwear/coat" in found["0003"]["values"]
    assert not any(value.startswith("lower_body/") for value in found["0003"]["values"])
