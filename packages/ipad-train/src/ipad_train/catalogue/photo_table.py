"""The table beside the photos: a row a photo, whose columns become filters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ipad_data.tables.table_files import TABLE_SUFFIXES, read_table_file
from ipad_train.catalogue.errors import CatalogueError

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "photo", "path", "name")
MAX_TEXT_BYTES = 4000
NUMBER, TEXT = "number", "text"


@dataclass(frozen=True)
class PhotoTable:
    """Columns by name with their kind, and the cells of every photo: numbers, texts, None where a cell is empty."""

    kinds: Mapping[str, str]
    rows: Mapping[str, Mapping[str, float | str | None]]

    def cells(self, photo: str) -> dict[str, float | str | None]:
        """A photo's cell in every column; None for a photo that the table does not name."""
        row = self.rows.get(photo, {})
        return {column: row.get(column) for column in self.kinds}

    def digest(self, photo: str) -> str:
        """16 hexadecimal digits of a photo's cells, to see whether they changed."""
        text = json.dumps(sorted(self.cells(photo).items()), ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


NO_TABLE = PhotoTable({}, {})


def find_table(folder: Path) -> Path | None:
    """The only table in a photo folder; None where there is none.

    Raises:
        CatalogueError: there are several.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CatalogueError(f"{folder} has several tables ({names}); choose one with --table, or --no-table for none")
    return found[0] if found else None


def read_photo_table(
    path: Path, kinds: Mapping[str, str] | None = None, image_column: str | None = None
) -> PhotoTable:
    """Read a CSV, TSV, JSON lines or Parquet table.

    Args:
        kinds: Columns that the catalogue has already; their kind stays.
        image_column: The column with the photo's name, relative to the folder; by default the first of ``IMAGE_COLUMNS``.

    Raises:
        CatalogueError: no column of names, a photo that comes twice, or a cell that does not fit its column.
        LabelFileError: the file cannot be read as a table.
    """
    table = read_table_file(path)
    wanted = [image_column] if image_column else list(IMAGE_COLUMNS)
    key = next((name for name in wanted if name in table.columns), None)
    if key is None:
        raise CatalogueError(
            f"{table.head}: no column of photo names; expected {' or '.join(wanted)}, got {', '.join(table.columns)}; "
            "--image-column names it"
        )
    columns = [name for name in table.columns if name != key]
    read: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, cells in table.rows:
        name = PurePosixPath(str(cells.get(key) or "").replace("\\", "/")).as_posix()
        if name in read:
            raise CatalogueError(f"{place}: the photo {name!r} has a row already, at {read[name][0]}")
        read[name] = place, cells
    chosen = {column: _kind([cells.get(column) for _, cells in read.values()]) for column in columns}
    chosen |= {column: kind for column, kind in (kinds or {}).items() if column in chosen}
    rows = {
        name: {column: _cell(cells.get(column), kind, column, place) for column, kind in chosen.items()}
        for name, (place, cells) in read.items()
    }
    return PhotoTable(chosen, rows)


def _kind(cells: list[Any]) -> str:
    filled = [cell for cell in cells if not _is_empty(cell)]
    return NUMBER if filled and all(_number(cell) is not None for cell in filled) else TEXT


def _is_empty(cell: Any) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _cell(cell: Any, kind: str, column: str, place: str) -> float | str | None:
    if _is_empty(cell):
        return None
    if kind == NUMBER:
        if (number := _number(cell)) is None:
            raise CatalogueError(f"{place}: the column {column!r} holds numbers, got {cell!r}")
        return number
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
    if len(text.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise CatalogueError(
            f"{place}: a cell of the column {column!r} has more than {MAX_TEXT_BYTES} bytes; leave the column out"
        )
    return text
