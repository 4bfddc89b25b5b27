"""Which file of a folder is the table, and which split a folder stands for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ipad_data.errors import DatasetFilesNotFoundError
from ipad_data.roles import SPLIT_NAMES
from ipad_data.tables.kept_splits import KEPT_SPLITS
from ipad_data.tables.table_files import TABLE_SUFFIXES


class FoundTable(NamedTuple):
    """A table, and the split that its folder stands for."""

    path: Path
    split: str | None = None


def find_tables(folder: Path) -> list[FoundTable]:
    """The table of a folder: ``labels.*``, else ``metadata.*``, else the ``metadata.*`` of its split folders, else the only
    table there is. A ``splits.csv`` beside another table is not meant.

    Returns:
        One table, one for each split folder, or none where the folder has no table.

    Raises:
        DatasetFilesNotFoundError: more than one could be meant.
    """
    here = _tables(folder)
    for stem in ("labels", "metadata"):
        if named := [path for path in here if path.stem.lower() == stem]:
            return [_single(named, folder)]
    found = []
    for child in sorted(path for path in folder.iterdir() if path.name.lower() in SPLIT_NAMES and path.is_dir()):
        if named := [path for path in _tables(child) if path.stem.lower() == "metadata"]:
            found.append(_single(named, child)._replace(split=SPLIT_NAMES[child.name.lower()]))
    return found or ([_single(here, folder)] if here else [])


def _tables(folder: Path) -> list[Path]:
    tables = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return [path for path in tables if path.name != KEPT_SPLITS] or tables


def _single(tables: list[Path], folder: Path) -> FoundTable:
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        how = "Name the table with table=..., or call it labels.csv (or .jsonl, .parquet)."
        raise DatasetFilesNotFoundError.explain(f"a single table ({len(tables)} there: {names})", [folder], how)
    return FoundTable(tables[0])
