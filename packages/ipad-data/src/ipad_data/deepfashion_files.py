"""The lists of DeepFashion's Category and Attribute Prediction Benchmark, ``list_*.txt``.

Each starts with a count and a line of column names. The five types are the attributes and the 1000 attributes their
values, as the field takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ipad_data.errors import LabelFileError
from ipad_data.label_files import RawLabels
from ipad_data.label_text import filled_lines, parse_int, safe_relative_path
from ipad_data.schema import AttributeSchema

TYPES = ("texture", "fabric", "shape", "part", "style")
SCHEMA = AttributeSchema(
    {
        kind: [str(value) for value in range(count)]
        for kind, count in zip(TYPES, (156, 218, 180, 216, 230), strict=True)
    }
)
FINE = (
    "these are the 26 attributes of Anno_fine; the field's benchmark uses the 1000 of Anno_coarse (called Anno in "
    "older copies). Download that folder of the same benchmark"
)
_SPLIT_NAMES = {"train": "train", "val": "validation", "test": "test"}


def coarse_beside(path: Path) -> str:
    """Where Anno_coarse lies beside a file of Anno_fine, as the end of a message; empty where it does not."""
    for folder in path.absolute().parents[:4]:
        if (coarse := folder / "Anno_coarse").is_dir():
            return f". {coarse} is here: name {folder} as the folder of the data"
    return ""


class ClothAttribute(NamedTuple):
    """One line of ``list_attr_cloth.txt``: the name may hold spaces; ``kind`` is an index into :data:`TYPES`."""

    name: str
    kind: int


def counted_rows(path: Path) -> Iterator[tuple[int, str]]:
    """Rows below the two header lines, with their line numbers; the first line must count them.

    Raises:
        LabelFileError: no count, or another number of rows.
    """
    lines = filled_lines(path)
    number, first = next(lines, (None, ""))
    if number is None:
        raise LabelFileError.at(path, None, "is empty; expected a count, column names and rows")
    expected = parse_int(first, "the first line, the number of rows,", path, number)
    next(lines, None)
    rows = 0
    for number, line in lines:
        rows += 1
        yield number, line
    if rows != expected:
        raise LabelFileError.at(path, 1, f"the count says {expected} rows, the file has {rows}")


def read_attr_cloth(path: Path) -> list[ClothAttribute]:
    """Attributes in the order of the columns of ``list_attr_img.txt``.

    Raises:
        LabelFileError: a row that is no name and type, an unknown type, or the file is Anno_fine's.
    """
    attributes = []
    rows = list(counted_rows(path))
    if len(rows) == 26 or "Anno_fine" in path.parts:
        raise LabelFileError.at(path, 1, FINE + coarse_beside(path))
    for number, line in rows:
        fields = line.rsplit(None, 1)
        if len(fields) != 2:
            raise LabelFileError.at(path, number, f"expected an attribute name and its type, got {line!r}")
        kind = parse_int(fields[1], "the type", path, number)
        if not 1 <= kind <= len(TYPES):
            raise LabelFileError.at(path, number, f"the type must be within [1, {len(TYPES)}], got {kind}")
        attributes.append(ClothAttribute(fields[0], kind - 1))
    return attributes


def cloth_schema(attributes: list[ClothAttribute]) -> tuple[AttributeSchema, list[int]]:
    """Schema of the types, and the flat value id of each column. A repeated name gets its column number added."""
    values: dict[str, list[str]] = {kind: [] for kind in TYPES}
    places = []
    for column, (name, kind) in enumerate(attributes):
        names = values[TYPES[kind]]
        places.append((kind, len(names)))
        names.append(name if name not in names else f"{name} #{column}")
    schema = AttributeSchema({kind: names for kind, names in values.items() if names})
    ids = [schema.attributes.index(TYPES[kind]) for kind, _ in places]
    return schema, [schema.offsets[i] + local for i, (_, local) in zip(ids, places, strict=True)]


def read_attr_img(path: Path, schema: AttributeSchema, value_of_column: list[int]) -> RawLabels:
    """Images with at least one positive attribute. ``-1`` (negative) and ``0`` (unknown) give no label.

    Raises:
        LabelFileError: a row with another number of columns, a field that is not -1, 0 or 1, an image that comes
            twice.
    """
    labels = RawLabels([], [], [])
    seen: set[str] = set()
    columns = len(value_of_column)
    attribute_of = [schema.locate(value_id)[0] for value_id in value_of_column]
    for number, line in counted_rows(path):
        fields = line.rsplit(None, columns)
        if len(fields) != columns + 1:
            raise LabelFileError.at(
                path, number, f"expected an image path and {columns} columns, got {len(line.split()) - 1} columns"
            )
        name = safe_relative_path(fields[0], path, number)
        if name in seen:
            raise LabelFileError.at(path, number, f"{name!r} has a row already")
        seen.add(name)
        texts = fields[1:]
        ones = _positions(texts, "1")
        if len(ones) + texts.count("0") + texts.count("-1") < columns:
            unknown = min(set(texts) - {"-1", "0", "1"})
            raise LabelFileError.at(path, number, f"columns must be -1, 0 or 1, got {unknown!r}")
        positive = sorted((value_of_column[column], attribute_of[column]) for column in ones)
        if positive:
            labels.names.append(name)
            labels.value_ids.append(tuple(value_id for value_id, _ in positive))
            labels.attribute_ids.append(tuple(attribute_id for _, attribute_id in positive))
    return labels._replace(unlabelled=len(seen) - len(labels.names))


def _positions(texts: list[str], wanted: str) -> list[int]:
    """Where a text comes in a list; a row has a thousand columns, 289,222 times, and a few ones."""
    found, start = [], 0
    for _ in range(texts.count(wanted)):
        found.append(texts.index(wanted, start))
        start = found[-1] + 1
    return found


def read_partition(path: Path) -> dict[str, str]:
    """Split of each image of ``list_eval_partition.txt``.

    Raises:
        LabelFileError: an unknown split, an image that comes twice.
    """
    partition: dict[str, str] = {}
    for number, line in counted_rows(path):
        name, _, split = line.rpartition(" ")
        if split not in _SPLIT_NAMES:
            raise LabelFileError.at(path, number, f"the split must be {', '.join(_SPLIT_NAMES)}, got {split!r}")
        name = safe_relative_path(name.strip(), path, number)
        if name in partition:
            raise LabelFileError.at(path, number, f"{name!r} has a row already")
        partition[name] = _SPLIT_NAMES[split]
    return partition


def read_boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """Box ``x1, y1, x2, y2`` in pixels of each image of ``list_bbox.txt``.

    Raises:
        LabelFileError: a row that is no path and four integers, or a box without area.
    """
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for number, line in counted_rows(path):
        fields = line.rsplit(None, 4)
        if len(fields) != 5:
            raise LabelFileError.at(path, number, f"expected an image path and four integers, got {line[:80]!r}")
        x1, y1, x2, y2 = (parse_int(field, "a coordinate", path, number) for field in fields[1:])
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise LabelFileError.at(path, number, f"expected 0 <= x1 < x2 and 0 <= y1 < y2, got {x1} {y1} {x2} {y2}")
        boxes[safe_relative_path(fields[0], path, number)] = (x1, y1, x2, y2)
    return boxes
