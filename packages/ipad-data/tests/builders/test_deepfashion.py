from __future__ import annotations

import io

import pytest
from PIL import Image

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, ImageDecodeError, LabelFileError, load
from ipad_data.deepfashion_files import SCHEMA, TYPES, ClothAttribute, cloth_schema, read_attr_cloth


def edit(path, old: str, new: str):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_schema():
    assert SCHEMA.num_values == (156, 218, 180, 216, 230)
    assert SCHEMA.total_values == 1000


@pytest.mark.parametrize("anno", ["Anno_coarse", "Anno", "."])
def test_random_and_official_splits(deepfashion_tree, anno):
    tree = deepfashion_tree(anno=anno)
    official = load("deepfashion", tree.folder, protocol="official")
    assert {split: len(rows) for split, rows in official.items()} == {"train": 36, "validation": 12, "test": 12}
    random = load("deepfashion", tree.folder, protocol="random")
    assert sum(len(rows) for rows in random.values()) == 60
    schema = AttributeSchema.from_features(random["train"].features)
    assert schema.attributes == TYPES
    assert schema.num_values == (156, 218, 180, 216, 230)
    assert all(len(row["value_ids"]) == 4 for row in random["train"])


def test_labels_follow_the_columns(deepfashion_tree):
    tree = deepfashion_tree()
    cloth = (tree.folder / "Anno_coarse" / "list_attr_cloth.txt").read_text().splitlines()[2:]
    names = [line.rsplit(None, 1) for line in cloth]
    dataset = load("deepfashion", tree.folder, protocol="official")
    schema = AttributeSchema.from_features(dataset["train"].features)
    lines = (tree.folder / "Anno_coarse" / "list_attr_img.txt").read_text().splitlines()[2:]
    positive = {}
    for line in lines:
        name, *columns = line.split()
        positive[name] = {
            f"{TYPES[int(names[c][1]) - 1]}/{names[c][0]}" for c, text in enumerate(columns) if text == "1"
        }
    several = 0
    for row in dataset["train"]:
        name = row["image"]["path"].removeprefix(f"{tree.folder}/")
        assert {schema.value_names[value] for value in row["value_ids"]} == positive[name]
        assert row["attribute_ids"] == [schema.locate(value)[0] for value in row["value_ids"]]
        several += len(set(row["attribute_ids"])) < len(row["attribute_ids"])
    assert several  # several values of one type on an image


def test_names_with_spaces_and_repeats():
    schema, ids = cloth_schema([ClothAttribute("a line", 2), ClothAttribute("dot", 0), ClothAttribute("a line", 2)])
    assert schema.values == {"texture": ("dot",), "shape": ("a line", "a line #2")}
    assert ids == [1, 0, 2]


def test_crop(deepfashion_tree):
    tree = deepfashion_tree(10)
    row = load("deepfashion", tree.folder, "train", protocol="official", crop=True)[0]
    assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (35, 50)


def test_crop_refuses_high_resolution_and_foreign_boxes(deepfashion_tree, jpeg):
    tree = deepfashion_tree(10)
    jpeg(tree.folder / tree.names[0], size=(900, 1200))
    with pytest.raises(ImageDecodeError, match=r"900 x 1200 pixels, but the boxes .* low-resolution"):
        load("deepfashion", tree.folder, protocol="official", crop=True)
    jpeg(tree.folder / tree.names[0], size=(4, 4))
    with pytest.raises(ImageDecodeError, match="outside the image"):
        load("deepfashion", tree.folder, protocol="official", crop=True)


def test_crop_without_boxes(deepfashion_tree):
    tree = deepfashion_tree(10)
    (tree.folder / "Anno_coarse" / "list_bbox.txt").unlink()
    with pytest.raises(DatasetFilesNotFoundError, match=r"list_bbox.txt not found"):
        load("deepfashion", tree.folder, protocol="official", crop=True)


def test_anno_fine_is_refused_with_an_explanation(deepfashion_tree, lines):
    tree = deepfashion_tree(5)
    (tree.folder / "Anno_coarse").rename(tree.folder / "Anno_fine")
    with pytest.raises(
        DatasetFilesNotFoundError, match="26 attributes of Anno_fine; the field's benchmark uses the 1000"
    ):
        load("deepfashion", tree.folder, protocol="random")
    renamed = lines(
        tree.folder / "Anno" / "list_attr_cloth.txt", ["26", "names types", *[f"a{i} 1" for i in range(26)]]
    )
    with pytest.raises(LabelFileError, match=f"{renamed}:1: these are the 26 attributes"):
        load("deepfashion", tree.folder, protocol="random")


FAULTS = [
    ("Anno_coarse/list_attr_img.txt", "10\n", "11\n", ":1: the count says 11 rows, the file has 10"),
    ("Anno_coarse/list_attr_img.txt", "10\n", "ten\n", ":1: the first line, the number of rows, must be an integer"),
    ("Anno_coarse/list_attr_img.txt", " -1", " 2", r":\d+: columns must be -1, 0 or 1, got '2'"),
    ("Anno_coarse/list_attr_img.txt", " -1", "", r":3: expected an image path and 1000 columns, got 999"),
    ("Anno_coarse/list_attr_img.txt", "img_00000001", "img_00000000", ":4: .* has a row already"),
    ("Anno_coarse/list_attr_img.txt", "img/", "../img/", ":3: .* no path inside the data folder"),
    ("Anno_coarse/list_attr_cloth.txt", "no 0", "no 0 9 #", r":3: the type must be an integer"),
    ("Eval/list_eval_partition.txt", "train", "trial", r":3: the split must be train, val, test, got 'trial'"),
    ("Eval/list_eval_partition.txt", "img_00000001", "img_00000000", ":4: .* has a row already"),
    ("Eval/list_eval_partition.txt", "img_00000001", "img_00000099", ": has no row for"),
    ("Anno_coarse/list_bbox.txt", "005 010 040", "005 010 004", r":3: expected 0 <= x1 < x2"),
    ("Anno_coarse/list_bbox.txt", "005 010 040", "010 040", r":3: a coordinate must be an integer|:3: expected an"),
    ("Anno_coarse/list_bbox.txt", "img_00000001", "img_00000099", ": has no box for 1 images"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), FAULTS)
def test_faults_name_file_and_line(deepfashion_tree, file, old, new, message):
    tree = deepfashion_tree(10, images=False)
    path = tree.folder / file
    if "no 0" in old:
        path.write_text("\n".join([*path.read_text().splitlines()[:2], "a dot 1x", *["b 2"] * 999]))
    else:
        edit(path, old, new)
    with pytest.raises(LabelFileError, match=path.name + message):
        load("deepfashion", tree.folder, protocol="official", crop=True, missing_images="label_only")


def test_cloth_rows(tmp_path, lines):
    path = lines(
        tmp_path / "list_attr_cloth.txt", ["2", "attribute_name  attribute_type", "a-line dress   3", "dot 1"]
    )
    assert read_attr_cloth(path) == [("a-line dress", 2), ("dot", 0)]
    with pytest.raises(LabelFileError, match=r":3: the type must be within \[1, 5\], got 6"):
        read_attr_cloth(lines(path, ["1", "h", "dot 6"]))
    with pytest.raises(LabelFileError, match=":3: expected an attribute name and its type, got 'dot'"):
        read_attr_cloth(lines(path, ["1", "h", "dot"]))
    with pytest.raises(LabelFileError, match="is empty"):
        read_attr_cloth(lines(path, []))
