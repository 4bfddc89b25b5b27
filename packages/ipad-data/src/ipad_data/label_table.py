"""A table of labels as people keep it: a CSV file with a column of image names and one column per attribute."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ipad_data.errors import LabelFileError
from ipad_data.roles import SPLITS
from ipad_data.schema import AttributeSchema

IMAGE_COLUMNS = ("file_name", "image", "path", "filename", "file", "image_path")
SPLIT_COLUMN, ROLE_COLUMN = "split", "role"
_SPLIT_NAMES = {**{split: split for split in SPLITS}, "val": "validation", "valid": "validation"}
_ROLE_NAMES = {"query": "query", "gallery": "gallery", "candidate": "gallery"}
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class TableRow:
    """One image of the table.

    Attributes:
        line: Line of the file, for messages.
        image: Image name as written.
        values: Attribute -> names of its values; attributes that are not labelled are absent.
        split: ``train``, ``validation``, ``test``, or None where the table has no such column.
        role: ``query``, ``gallery``, or None.
    """

    line: int
    image: str
    values: dict[str, tuple[str, ...]]
    split: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class LabelTable:
    """A table as read: its attributes (column names, in order) and its rows."""

    path: Path
    attributes: tuple[str, ...]
    rows: list[TableRow]

    def infer_schema(self) -> AttributeSchema:
        """Attributes in the order of the columns, values sorted by name.

        Raises:
            LabelFileError: an attribute has no value at all.
        """
        values: dict[str, set[str]] = {attribute: set() for attribute in self.attributes}
        for row in self.rows:
            for attribute, names in row.values.items():
                values[attribute].update(names)
        if empty := [attribute for attribute, names in values.items() if not names]:
            raise LabelFileError.at(self.path, 1, f"columns without a single label: {', '.join(empty)}")
        try:
            return AttributeSchema({attribute: sorted(names) for attribute, names in values.items()})
        except ValueError as error:
            raise LabelFileError.at(self.path, 1, str(error)) from None


def read_label_table(
    path: Path,
    image_column: str | None = None,
    attributes: Sequence[str] | None = None,
    value_separator: str | None = None,
) -> LabelTable:
    """Read a CSV file of labels.

    UTF-8, with or without byte order mark, any line ends, separated by comma, semicolon or tab. Empty fields mean "not
    labelled"; rows without an image name and without labels are left out.

    Args:
        path: The file.
        image_column: Column of the image names; when None, the first of ``IMAGE_COLUMNS`` that the file has.
        attributes: Columns that are attributes; when None, all but those of image, split and role.
        value_separator: What separates several values of an attribute in a field; when None, a field is one value.

    Raises:
        LabelFileError: with file and line: not UTF-8, no rows, a missing or repeated column, a row with another
            number of fields, no image name, an image that comes twice, an unknown split or role.
    """
    lines = _numbered_fields(path)
    _, header = next(lines, (1, []))
    if not any(header):
        raise LabelFileError.at(path, 1, "expected a header line with column names, found nothing")
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise LabelFileError.at(path, 1, f"columns come twice: {', '.join(map(repr, repeated))}")
    image_column = _image_column(path, header, image_column)
    attributes = _attribute_columns(path, header, image_column, attributes)
    rows: list[TableRow] = []
    first_line: dict[str, int] = {}
    for line, fields in lines:
        if not any(fields):
            continue
        if len(fields) != len(header):
            raise LabelFileError.at(path, line, f"expected {len(header)} fields, got {len(fields)}")
        row = _parse_row(path, line, dict(zip(header, fields, strict=True)), image_column, attributes, value_separator)
        if row.image in first_line:
            raise LabelFileError.at(path, line, f"image {row.image!r} was on line {first_line[row.image]} already")
        first_line[row.image] = line
        rows.append(row)
    if not rows:
        raise LabelFileError.at(path, None, "holds no images below its header")
    return LabelTable(path, tuple(attributes), rows)


def _numbered_fields(path: Path):
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise LabelFileError.at(path, line, "not UTF-8 text; save the file as UTF-8") from None
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    try:
        for fields in reader:
            yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        raise LabelFileError.at(path, reader.line_num, f"not a CSV line: {error}") from None


def _image_column(path: Path, header: list[str], image_column: str | None) -> str:
    if image_column is None:
        found = next((name for name in IMAGE_COLUMNS if name in header), None)
        wanted = f"a column of image names ({', '.join(IMAGE_COLUMNS)}, or the one named by image_column)"
    else:
        found = image_column if image_column in header else None
        wanted = f"a column {image_column!r} of image names"
    if found is None:
        raise LabelFileError.at(path, 1, f"expected {wanted}, got columns {', '.join(header)}")
    return found


def _attribute_columns(
    path: Path, header: list[str], image_column: str, attributes: Sequence[str] | None
) -> tuple[str, ...]:
    others = [name for name in header if name not in (image_column, SPLIT_COLUMN, ROLE_COLUMN)]
    if attributes is not None:
        for name in attributes:
            if name not in others:
                near = get_close_matches(name, others) or others
                raise LabelFileError.at(path, 1, f"no column {name!r}; did you mean one of: {', '.join(near)}?")
        return tuple(attributes)
    if not others or not all(others):
        raise LabelFileError.at(path, 1, f"expected a named column per attribute, got columns {', '.join(header)!r}")
    return tuple(others)


def _parse_row(
    path: Path, line: int, fields: dict[str, str], image_column: str, attributes: Sequence[str],
    value_separator: str | None,
) -> TableRow:  # fmt: skip
    image = fields[image_column]
    if not image:
        raise LabelFileError.at(path, line, f"no image name in column {image_column!r}")
    values = {}
    for attribute in attributes:
        texts = fields[attribute].split(value_separator) if value_separator else [fields[attribute]]
        if names := tuple(dict.fromkeys(text.strip() for text in texts if text.strip())):
            values[attribute] = names
    split = _choice(path, line, SPLIT_COLUMN, fields.get(SPLIT_COLUMN), _SPLIT_NAMES)
    role = _choice(path, line, ROLE_COLUMN, fields.get(ROLE_COLUMN), _ROLE_NAMES) if split != "train" else None
    if SPLIT_COLUMN in fields and split is None:
        raise LabelFileError.at(path, line, f"no {SPLIT_COLUMN} given; it must be one of: {', '.join(_SPLIT_NAMES)}")
    return TableRow(line, image, values, split, role)


def _choice(path: Path, line: int, column: str, text: str | None, names: dict[str, str]) -> str | None:
    if not text:
        return None
    if text.lower() not in names:
        raise LabelFileError.at(path, line, f"{column} must be one of {', '.join(names)}; got {text!r}")
    return names[text.lower()]
