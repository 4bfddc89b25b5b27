"""Published split files that contradict themselves: an error that says where, or a warning where that is asked for."""

from __future__ import annotations

import json
import re

import pytest

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, DataWarning, LabelFileError, load
from ipad_data.builders.darn import DARN
from ipad_data.builders.fashionai import FashionAI
from ipad_data.meta_file import differences

from .trees import label_csv


def change_lines(path, change):
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line}\n" for line in change(lines)), encoding="utf-8")


def train_image_in_test(folder):
    name = (folder / "filenames_train.txt").read_text(encoding="utf-8").splitlines()[16]
    change_lines(folder / "filenames_test.txt", lambda lines: [name, *lines[1:]])  # both are of attribute 0


def image_twice(folder):
    change_lines(folder / "filenames_valid.txt", lambda lines: [*lines[:8], lines[0], *lines[9:]])


def query_and_candidate(folder):
    query = (folder / "query_test.txt").read_text(encoding="utf-8").splitlines()[0]
    change_lines(folder / "candidate_test.txt", lambda lines: [*lines, query])


def two_values(folder):
    change_lines(
        folder / "label_train.txt", lambda lines: [lines[0] + (" 0 1" if " 0 0" in lines[0] else " 0 0"), *lines[1:]]
    )


def shifted_names(folder):
    change_lines(folder / "filenames_valid.txt", lambda lines: [*lines[1:], lines[0]])


def permuted_meta(folder):
    path = folder.parent / "meta.json"
    meta = json.loads(path.read_text(encoding="utf-8"))
    meta["FashionAI"]["ATTRIBUTES"][4:6] = reversed(meta["FashionAI"]["ATTRIBUTES"][4:6])
    path.write_text(json.dumps(meta), encoding="utf-8")


def repeated_entry(folder):
    change_lines(folder / "query_valid.txt", lambda lines: [*lines, lines[3]])


def repeated_pair(folder):
    change_lines(folder / "label_train.txt", lambda lines: [f"{lines[0]} {lines[0].split(' ', 1)[1]}", *lines[1:]])


def repeated_line(folder):
    change_lines(folder / "label_train.txt", lambda lines: [*lines, lines[2]])


def other_line(folder):
    value = {"0": "1", "1": "0"}
    change_lines(folder / "label_train.txt", lambda lines: [*lines, lines[2][:-1] + value.get(lines[2][-1], "0")])


FAULTY = [
    (
        train_image_in_test,
        r"1 images are in more than one split, e\.g\. filenames_train\.txt:17 .* and filenames_test\.txt:1 ",
    ),
    (image_twice, r"1 images come twice in a split .* filenames_valid\.txt:1 .* and filenames_valid\.txt:9 "),
    (query_and_candidate, r"1 images are query and candidate of an attribute at once, e\.g\. filenames_test\.txt:16 "),
    (two_values, r"1 images have two values of an attribute that can have one, e\.g\. filenames_train\.txt:1 "),
    (shifted_names, r"80 images lie in the folder of an attribute that they are not labelled with"),
    (permuted_meta, r"80 images lie in the folder of .*meta\.json has another order"),
    (repeated_entry, r"1 lines repeat an image's attribute and value, which count once, e\.g\. query_valid\.txt:17"),
    (repeated_pair, r"1 lines repeat .* label_train\.txt:1"),
    (repeated_line, r"1 lines are of an image that had a line before.* label_train\.txt:161, first on line 3"),
    (other_line, r"1 images have two values .* filenames_train\.txt:3 .*\n.*1 lines are of .* label_train\.txt:161"),
]


@pytest.mark.filterwarnings("ignore:.*not as FashionAI is known:ipad_data.DataWarning")
@pytest.mark.parametrize(("damage", "message"), FAULTY)
def test_contradictions_are_an_error_or_a_warning(asen, damage, message):
    tree = asen(images=False)
    damage(tree.folder)
    message = re.compile(message, re.DOTALL)
    with pytest.raises(LabelFileError, match=message):
        load("fashionai", tree.folder, missing_images="label_only")
    with pytest.warns(DataWarning, match=message):
        found = load("fashionai", tree.folder, missing_images="label_only", faults="warn")
    assert found.num_rows == {"train": 160, "validation": 80, "test": 80}
    entries = sum(len(values) for rows in found.values() for values in rows["value_ids"])
    assert entries == 320 + (damage in (query_and_candidate, two_values, other_line))


def test_two_names_of_one_file(asen):
    tree = asen()
    name = tree.names[16].removeprefix("Images/")
    change_lines(tree.folder / "filenames_test.txt", lambda lines: [f"test/Images/{name}", *lines[1:]])
    with pytest.raises(
        LabelFileError, match=r"1 images are one file under two names, .* of train and test/Images/.* of test"
    ):
        load("fashionai", tree.folder)


def test_a_split_under_another_name(asen):
    tree = asen(images=False)
    (tree.folder / "filenames_valid.txt").rename(tree.folder / "filenames_val.txt")
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"(?s)filenames_valid\.txt not found.*Rename filenames_val\.txt to"
    ):
        load("fashionai", tree.folder, missing_images="label_only")
    (tree.folder / "filenames_val.txt").unlink()
    with pytest.raises(DatasetFilesNotFoundError, match=r"filenames_valid\.txt not found"):
        load("fashionai", tree.folder, missing_images="label_only")
    (tree.folder / "query_valid.txt").rename(tree.folder / "query_val.txt")
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)query_valid\.txt not found.*Rename query_val\.txt to"):
        load("fashionai", tree.folder, missing_images="label_only")
    (tree.folder / "query_val.txt").unlink()
    (tree.folder / "candidate_valid.txt").unlink()
    with pytest.warns(DataWarning, match="no split files of validation"):
        load("fashionai", tree.folder, missing_images="label_only")


def test_another_number_of_images_than_was_published(asen, monkeypatch):
    tree = asen(images=False)
    monkeypatch.setattr(FashionAI, "KNOWN_COUNTS", {"train": 161, "validation": 80, "test": 100})
    with pytest.warns(
        DataWarning, match=r"not the splits of FashionAI .*: test 80 instead of about 100 labelled images$"
    ):
        load("fashionai", tree.folder, missing_images="label_only")


@pytest.mark.filterwarnings("ignore::ipad_data.DataWarning")
def test_images_without_a_label_and_files_without_an_entry_are_counted(asen):
    tree = asen(images=False)
    change_lines(tree.folder / "label_train.txt", lambda lines: [*lines[:4], *lines[6:]])
    with pytest.warns(DataWarning, match=r"2 of 160 images have no label and are left out, e\.g\. .*_train\.txt:5 Im"):
        assert load("fashionai", tree.folder, missing_images="label_only")["train"].num_rows == 158
    change_lines(tree.folder / "query_test.txt", lambda lines: [])
    with pytest.warns(DataWarning, match=r"query_test\.txt: holds no entries"):
        load("fashionai", tree.folder, missing_images="label_only")


def shift(path, attribute):
    """Move the values of an attribute up by a line."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    own = [row for row in rows if row[1] == str(attribute)]
    values = [row[2] for row in own]
    for row, value in zip(own, [*values[1:], values[0]], strict=True):
        row[2] = value
    path.write_text("".join(" ".join(row) + "\n" for row in rows), encoding="utf-8")


def test_labels_that_differ_from_the_letters_beside_them(asen, lines):
    tree = asen(images=False)
    lines(tree.folder / "Annotations" / "label.csv", label_csv(tree.rows))
    assert load("fashionai", tree.folder, missing_images="label_only").num_rows["train"] == 160
    before = (tree.folder / "label_train.txt").read_text(encoding="utf-8").split("\n")
    shift(tree.folder / "label_train.txt", 1)
    changed = sum(
        a != b for a, b in zip(before, (tree.folder / "label_train.txt").read_text().split("\n"), strict=True)
    )
    assert changed > 5
    with pytest.raises(
        LabelFileError, match=f"{changed} images have another value than in label.csv, e.g. Images/sle"
    ):
        load("fashionai", tree.folder, missing_images="label_only")


def test_a_label_csv_that_cannot_be_read_is_no_hindrance(asen, lines):
    tree = asen(images=False)
    lines(tree.folder / "Annotations" / "label.csv", ["Images/neck_design_labels/a.jpg,neck_design_labels,?"])
    with pytest.warns(DataWarning, match=r"the labels were not compared with label\.csv: .*label\.csv:1: '\?' marks"):
        load("fashionai", tree.folder, missing_images="label_only")


def exchange_values(section):
    names = section["ATTRIBUTES_VALUES"]["sleeve_length"]
    names[1], names[2] = names[2], names[1]


def add_a_value(section):
    del section["ATTRIBUTES_VALUES"]
    section["ATTRIBUTES_NUM"]["sleeve_length"] = 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (exchange_values, r"the values of 'sleeve_length' are in another order: Invisible, Cup Sleeves, Sleeveless"),
        (add_a_value, r"'sleeve_length' has 10 values instead of 9"),
    ],
)
def test_a_meta_file_that_differs_from_what_is_known(asen, change, message):
    tree = asen(images=False, nested=False)
    path = tree.folder.parent / "meta.json"
    section = json.loads(path.read_text(encoding="utf-8"))
    change(section)
    path.write_text(json.dumps(section), encoding="utf-8")
    with pytest.warns(DataWarning, match=f"meta.json: not as FashionAI is known: {message}"):
        load("fashionai", tree.folder, missing_images="label_only")


def test_darn_attributes_in_another_order():
    values = dict(reversed(DARN.SCHEMA.values.items()))
    (note,) = differences(AttributeSchema(values), DARN.SCHEMA)
    assert note.startswith("the attributes are in another order: sleeve_shape, sleeve_length")
    assert differences(DARN.SCHEMA, DARN.SCHEMA) == differences(AttributeSchema({"a": ["x"]}), DARN.SCHEMA) == []


def test_several_values_of_deepfashion_are_no_fault(deepfashion_tree):
    assert sum(load("deepfashion", deepfashion_tree().folder, protocol="random").num_rows.values()) == 60


def test_unknown_policy(asen):
    with pytest.raises(ValueError, match="faults must be one of raise, warn, got 'ignore'"):
        load("fashionai", asen(images=False).folder, faults="ignore")


def test_the_doctor_says_it(asen):
    from ipad_data.doctor import examine

    tree = asen()
    shifted_names(tree.folder)
    (diagnosis,) = examine(tree.folder)
    assert not diagnosis.healthy
    assert "80 images lie in the folder of an attribute" in str(diagnosis)
