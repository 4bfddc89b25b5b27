"""Table files as people keep them: CSV, JSON lines and Parquet, each row as cells by column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ipad_data.errors import LabelFileError
from ipad_data.label_text import filled_lines, parse_json, read_text

_DELIMITERS = (",", ";", "\t")


class TableFile(NamedTuple):
    """A table as it is written.

    Attributes:
        head: Where its columns are named, for messages: ``file:line`` or the file.
        columns: Names of the columns, in order.
        rows: Place of each row, for messages, and its cells. An error of a later row comes when that row is asked for.
    """

    head: str
    columns: list[str]
    rows: Iterable[tuple[str, dict[str, Any]]]


def read_table_file(path: Path) -> TableFile:
    """Open a table by its suffix, one of ``TABLE_SUFFIXES``.

    CSV: UTF-8, with or without byte order mark, any line ends, separated by comma, semicolon or tab; rows of empty
    fields are left out. JSON lines: an object a line, blank lines are left out. Parquet: as pyarrow reads it.

    Raises:
        LabelFileError: with file, and line or row: another suffix, damage, columns that come twice, a row with another
            number of fields, a line that is no JSON object.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise LabelFileError.at(path, None, f"a table must be a file of {', '.join(_READERS)}, got {path.suffix!r}")
    table = reader(path)
    if repeated := sorted({name for name in table.columns if table.columns.count(name) > 1}):
        raise LabelFileError.at(table.head, None, f"columns come twice: {', '.join(map(repr, repeated))}")
    return table


def _read_csv(path: Path) -> TableFile:
    lines = _numbered_fields(path)
    _, header = next(lines, (1, []))
    if not any(header):
        raise LabelFileError.at(path, 1, "expected a header line with column names, found nothing")

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for line, fields in lines:
            if any(fields):
                if len(fields) != len(header):
                    raise LabelFileError.at(path, line, f"expected {len(header)} fields, got {len(fields)}")
                yield f"{path}:{line}", dict(zip(header, fields, strict=True))

    return TableFile(f"{path}:1", header, rows())


def _numbered_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Fields of each row with the line that it begins on."""
    text = read_text(path)
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count), strict=True)
    start = 1
    try:
        for fields in reader:
            yield start, [field.strip() for field in fields]
            start = reader.line_num + 1
    except csv.Error as error:
        hint = ", which begins here; is a quote not closed?" if reader.line_num > start else ""
        raise LabelFileError.at(path, start, f"not a CSV row{hint or ':'} {error}") from None


def _read_jsonl(path: Path) -> TableFile:
    rows, columns = [], {}
    for line, text in filled_lines(path):
        cells = parse_json(text, path, line)
        if not isinstance(cells, dict):
            raise LabelFileError.at(path, line, f"expected a JSON object on each line, got {text[:40]!r}")
        columns.update(dict.fromkeys(cells))
        rows.append((f"{path}:{line}", cells))
    return TableFile(str(path), list(columns), rows)


def _read_parquet(path: Path) -> TableFile:
    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        with _parquet_errors(path), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", cells

    with _parquet_errors(path):
        return TableFile(str(path), pq.read_schema(path).names, rows())


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise LabelFileError.at(path, None, f"not a Parquet file that can be read: {error}") from None


_READERS = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
TABLE_SUFFIXES = tuple(_READERS)
