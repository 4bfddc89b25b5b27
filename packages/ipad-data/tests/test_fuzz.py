"""Damaged label files: whatever the bytes, a reader answers with rows or with an error that names the file."""

from __future__ import annotations

import io
import json
import random
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import savemat

from ipad_data import LabelFileError
from ipad_data.builders.darn import read_attribute_list, read_url_list
from ipad_data.builders.fashionai import SCHEMA, read_label_csv
from ipad_data.ccp_files import read_label_list
from ipad_data.deepfashion_files import (
    cloth_schema,
    read_attr_cloth,
    read_attr_img,
    read_boxes,
    read_partition,
)
from ipad_data.label_files import read_entries, read_filenames, read_train_labels
from ipad_data.mat_files import read_mat
from ipad_data.meta_file import read_meta
from ipad_data.prepared import Manifest
from ipad_data.tables import LabelTable, TableRow, add_boxes, read_label_table

from .trees import CCP_LABELS

CLOTH = "3\nattribute_name  attribute_type\na-line dress   3\ndot 1\nlace 2\n"
NAMES = [f"{i}.jpg" for i in range(5)]


def read_small_attr_img(path):
    cloth = path.with_name("list_attr_cloth.txt")
    cloth.write_text(CLOTH)
    return read_attr_img(path, *cloth_schema(read_attr_cloth(cloth)))


def parquet(rows):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def mat(**variables):
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression="groundtruth" in variables)
    return buffer.getvalue()


def read_pixels(path):
    return read_mat(path, "groundtruth", "numbers", (range(1, 99), range(1, 99)))


ROWS = [
    {"file_name": "a.jpg", "color": "red", "boxes": {"color": [0.0, 0.0, 1.0, 1.0]}},
    {"file_name": "b.jpg", "color": "blue"},
]
TABLE = LabelTable(Path("labels.csv"), ("color",), [TableRow("labels.csv:2", Path(), "a.jpg", {"color": ("red",)})])

READERS = {
    "label.csv": (
        read_label_csv,
        "Images/skirt_length_labels/a.jpg,skirt_length_labels,nnynnm\n"
        "Images/neck_design_labels/b.jpg,neck_design_labels,ynnnn\n",
    ),
    "filenames_train.txt": (read_filenames, "Images/a.jpg\nvalid/Images/b.jpg\n"),
    "label_train.txt": (lambda path: read_train_labels(path, NAMES, SCHEMA), "0 0 1 1 2\n3 2 1\n"),
    "query_test.txt": (lambda path: read_entries(path, NAMES, SCHEMA), "0 0 1\n3 2 1\n"),
    "darn.txt": (read_attribute_list, "a.jpg 0 -1 2 3 4 5 6 7 8\nb.jpg 1 1 1 1 1 1 1 1 1\n"),
    "darn_url.txt": (read_url_list, "a.jpg http://x.example/1.jpg\nb.jpg https://x.example/2\n"),
    "list_attr_cloth.txt": (read_attr_cloth, CLOTH),
    "list_attr_img.txt": (read_small_attr_img, "2\nimage_name labels\nimg/a/1.jpg  -1  0 1\nimg/a/2.jpg 1 -1 0\n"),
    "list_eval_partition.txt": (read_partition, "2\nimage_name status\nimg/1.jpg  train\nimg/2.jpg  val\n"),
    "list_bbox.txt": (read_boxes, "1\nimage_name x_1 y_1 x_2 y_2\nimg/1.jpg  001 002 030 040\n"),
    "meta.json": (
        lambda path: read_meta(path, "FashionAI"),
        '{"FashionAI": {"ATTRIBUTES": ["a", "b"], "ATTRIBUTES_NUM": {"a": 2, "b": 3}}}',
    ),
    "labels.csv": (read_label_table, 'file_name,color,shape\na.jpg,red,"ro,und"\nb.jpg,,square\n'),
    "labels.jsonl": (read_label_table, "".join(json.dumps(row) + "\n" for row in ROWS)),
    "labels.parquet": (read_label_table, parquet(ROWS)),
    "boxes.json": (lambda path: add_boxes(TABLE, path), '{"a.jpg": {"color": [0.0, 0.0, 0.5, 1.0]}}'),
    "label_list.mat": (read_label_list, mat(label_list=np.array([CCP_LABELS], dtype=object))),
    "0001.mat": (read_pixels, mat(groundtruth=np.arange(64, dtype=np.uint8).reshape(8, 8))),
    "1001.mat": (
        lambda path: read_mat(path, "tags", "numbers", (1, range(1, 99))),
        mat(tags=np.arange(9, dtype=np.uint8)[None]),
    ),
    "prepared.json": (
        lambda path: Manifest.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path)),
        Manifest("fashionai", {"seed": 0}, 32, 90, {"train": []}).to_json(),
    ),
}
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n\n",
    b" ",
    b",",
    b"-1",
    b"99999999999999999999",
    b"../",
    b"/",
    b'"',
    b"{",
    b"]",
]


def damage(content: bytes, rng: random.Random) -> bytes:
    """Content with one to three pieces cut out and replaced."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        content = content[:start] + rng.choice(PIECES) + content[start + rng.randrange(6) :]
    return content


@pytest.mark.parametrize("name", list(READERS))
def test_damaged_files_give_rows_or_an_error_that_names_the_file(tmp_path, name):
    reader, text = READERS[name]
    content = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / name
    path.write_bytes(content)
    reader(path)  # as it should be
    rng = random.Random(0)
    messages = []
    for _ in range(150):
        path.write_bytes(damage(content, rng))
        with suppress_into(messages):
            reader(path)
    assert len(messages) >= 8
    assert all(str(tmp_path) in message for message in messages)


@contextmanager
def suppress_into(messages: list[str]):
    """Keep the message of the one error that a reader may raise."""
    try:
        yield
    except LabelFileError as error:
        messages.append(str(error))
