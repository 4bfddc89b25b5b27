from __future__ import annotations

import json

import pytest

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, LabelFileError
from ipad_data.label_files import (
    LabelledImage,
    read_entries,
    read_filenames,
    read_splits,
    read_train_labels,
)
from ipad_data.label_text import safe_relative_path
from ipad_data.meta_file import read_meta, write_meta
from ipad_data.split_writing import write_splits

SCHEMA = AttributeSchema({"color": ["red", "blue", "3/4"], "collar": ["none", "shirt"]})
NAMES = ["a.jpg", "b.jpg", "", "d.jpg"]


def write(path, content: bytes | str):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_filenames_accept_bom_crlf_and_blank_lines_without_shifting_ids(tmp_path):
    path = write(tmp_path / "f.txt", b"\xef\xbb\xbfvalid/Images/a.jpg\r\n\r\n./Images//\xe8\xa1\xa3.jpg\r\n\r\n")
    assert read_filenames(path) == ["valid/Images/a.jpg", "", "Images/\u8863.jpg"]


def test_line_ends_of_old_macs_are_named_in_a_short_message(tmp_path):
    path = write(tmp_path / "f.txt", "\r".join(f"Images/{i}.jpg" for i in range(1000)))
    with pytest.raises(LabelFileError, match=r"f\.txt:1: a carriage return within the line, as old Macs") as error:
        read_filenames(path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "a/../../b.jpg",
        "C:/x.jpg",
        "C:x.jpg",
        "a\\..\\b.jpg",
        "..",
        ".",
        "a\x07.jpg",
    ],
)
def test_paths_that_leave_the_folder_are_refused_with_file_and_line(tmp_path, name):
    path = write(tmp_path / "filenames_train.txt", f"ok.jpg\n{name}\n")
    with pytest.raises(LabelFileError, match=r"filenames_train.txt:2: .* is no path inside the data folder"):
        read_filenames(path)


def test_two_dots_inside_a_name_are_fine(tmp_path):
    assert safe_relative_path("a..b/c...jpg", tmp_path, 1) == "a..b/c...jpg"


def test_several_pairs_on_a_training_line(tmp_path):
    path = write(tmp_path / "label_train.txt", "\n0 0 2\t1  1 \n\n3 1 0\n")
    entries = read_train_labels(path, NAMES, SCHEMA)
    assert [tuple(entry) for entry in entries] == [(0, 0, 2), (0, 1, 4), (3, 1, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 0 1\n9 0 1\n", r":2: image id must be within \[0, 4\), got 9"),
        ("-1 0 1\n", r":1: image id must be within"),
        ("2 0 1\n", r":1: image id 2 is a blank line"),
        ("0 2 0\n", r":1: attribute id must be within \[0, 2\), got 2"),
        ("0 0 3\n", r":1: value id of 'color' must be within \[0, 3\), got 3"),
        ("0 0 1\n1 0 x\n", r":2: each field must be an integer, got 'x'"),
        ("0 0 1.0\n", r":1: each field must be an integer, got '1.0'"),
        ("0 0 \u0663\n", r":1: each field must be an integer"),
        ("0 0 1\n0 0 1\n", r":2: .*line 1 already"),
        ("0\n", r":1: expected"),
        (b"0 0 \xff\n", r":1: not UTF-8"),
        ("0 0 1\n".encode("utf-16"), r":1: not"),
    ],
)
@pytest.mark.parametrize("reader", [read_entries, read_train_labels])
def test_faults_name_file_and_line(tmp_path, reader, content, message):
    path = write(tmp_path / "labels.txt", content)
    with pytest.raises(LabelFileError, match="labels.txt" + message):
        reader(path, NAMES, SCHEMA)


@pytest.mark.parametrize("line", ["0 0", "0 0 1 1", "0 0 1 0 1"])
def test_training_line_with_half_or_repeated_pair(tmp_path, line):
    with pytest.raises(LabelFileError, match=":1: "):
        read_train_labels(write(tmp_path / "label_train.txt", line), NAMES, SCHEMA)


def test_query_line_with_four_fields(tmp_path):
    with pytest.raises(LabelFileError, match=":1: expected image id, attribute id and value id, got 4 fields"):
        read_entries(write(tmp_path / "query_test.txt", "0 0 1 1"), NAMES, SCHEMA)


def test_written_splits_are_read_back(tmp_path):
    splits = {
        "train": [
            LabelledImage("x/a b.jpg", 0, (0, 0, 1), (0, 2, 4), (0, 0, 0)),
            LabelledImage("x/\u00fc.jpg", 3, (1,), (3,), (0,)),
        ],
        "test": [
            LabelledImage("q.jpg", 0, (0, 1), (1, 3), (1, 2)),
            LabelledImage("g.jpg", 1, (0,), (1,), (2,)),
        ],
    }
    written = write_splits(tmp_path, splits, SCHEMA, "Mine")
    assert sorted(path.name for path in written) == sorted(path.name for path in tmp_path.iterdir())
    schema = read_meta(tmp_path / "meta.json", "mine")
    assert schema == SCHEMA
    assert read_splits(tmp_path, schema) == splits
    assert (tmp_path / "label_train.txt").read_bytes() == b"0 0 0 0 2 1 1\n3 1 0\n"


@pytest.mark.parametrize(
    ("split", "image", "message"),
    [
        ("valid", LabelledImage("a", 0, (0,), (0,), (1,)), "splits must be named"),
        ("train", LabelledImage("a", 0, (0,), (0,), (1,)), "holds entries of role train"),
        ("train", LabelledImage("a\nb", 0, (0,), (0,), (0,)), "line breaks"),
        ("train", LabelledImage("a", -1, (0,), (0,), (0,)), "not negative"),
    ],
)
def test_unwritable_splits(tmp_path, split, image, message):
    with pytest.raises(ValueError, match=message):
        write_splits(tmp_path, {split: [image]}, SCHEMA, "Mine")


def test_missing_files_say_which_where_and_how(tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)split files not found.*filenames_train.txt.*protocol="):
        read_splits(tmp_path, SCHEMA)
    write(tmp_path / "filenames_valid.txt", "a.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"query_valid.txt, candidate_valid.txt not found"):
        read_splits(tmp_path, SCHEMA)


def test_meta_forms(tmp_path):
    path = tmp_path / "meta.json"
    flat = {"ATTRIBUTES": ["color", "collar"], "ATTRIBUTES_NUM": {"color": 3, "collar": 2}}
    for content in (flat, {"FashionAI": flat, "DARN": {}}):
        path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
        assert read_meta(path, "fashionai").values == {"color": ("0", "1", "2"), "collar": ("0", "1")}
        assert read_meta(path, "fashionai", names=SCHEMA) == SCHEMA
    write_meta(path, SCHEMA, "Mine")
    assert read_meta(path, "MINE") == SCHEMA


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n"a": ]', "meta.json:2: not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"DARN": {}}', "no section for 'FashionAI'; its sections: .'DARN'"),
        ('{"FashionAI": {}}', "has no ATTRIBUTES"),
        ('{"ATTRIBUTES": ["a"]}', "no ATTRIBUTES_NUM"),
        ('{"ATTRIBUTES": ["a", "a"], "ATTRIBUTES_NUM": {"a": 2}}', "twice"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_NUM": {}}', "no number for 'a'"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_NUM": {"a": 0}}', "must be >= 1, got 0"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_NUM": {"a": 2}, "ATTRIBUTES_VALUES": {"a": ["x"]}}', "has 2 values by"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_VALUES": {"a": ["x", "x"]}}', "distinct"),
        ('{"ATTRIBUTES": 3, "ATTRIBUTES_NUM": {}}', "must be a list of names"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_VALUES": ["x"]}', r"ATTRIBUTES_VALUES must be an object by attribute"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_NUM": 2}', r"ATTRIBUTES_NUM must be an object by attribute, got 2"),
        ('{"ATTRIBUTES": ["a"], "ATTRIBUTES_NUM": {"a": 2, "b": 2}}', "has 'b', which ATTRIBUTES does not name"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_meta_faults(tmp_path, content, message):
    with pytest.raises(LabelFileError, match=message):
        read_meta(write(tmp_path / "meta.json", content), "FashionAI")
