"""Published split files that contradict themselves: an error that says where, or a warning where that is asked for."""

from __future__ import annotations

import json
import re

import pytest

from ipad_data import DatasetFilesNotFoundError, DataWarning, LabelFileError, load
from ipad_data.builders.fashionai import FashionAI


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
]


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
    assert entries == 320 + (damage in (query_and_candidate, two_values))


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
    for kind in ("query", "candidate"):
        (tree.folder / f"{kind}_valid.txt").unlink()
    with pytest.warns(DataWarning, match="no split files of validation"):
        load("fashionai", tree.folder, missing_images="label_only")


def test_another_number_of_images_than_was_published(asen, monkeypatch):
    tree = asen(images=False)
    monkeypatch.setattr(FashionAI, "KNOWN_COUNTS", {"train": 161, "validation": 80, "test": 100})
    with pytest.warns(
        DataWarning, match=r"not the splits of FashionAI .*: test 80 instead of about 100 labelled images$"
    ):
        load("fashionai", tree.folder, missing_images="label_only")


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
