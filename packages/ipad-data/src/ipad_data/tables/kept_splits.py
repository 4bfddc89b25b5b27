"""A file of splits to keep: ``file_name,split,role`` for each image, so that images added later move none of them."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from ipad_data.errors import DataWarning, LabelFileError
from ipad_data.label_files import LabelledImage
from ipad_data.roles import ROLES, SPLITS
from ipad_data.stable_splits import Place
from ipad_data.tables.label_table import LabelTable, one_spelling
from ipad_data.tables.table_files import read_table_file

KEPT_SPLITS = "splits.csv"
_COLUMNS = ("file_name", "split", "role")
_ROLES_OF = {True: ("",), False: ("", "query", "gallery")}  # of training, of held-out splits


def read_kept_splits(path: Path, table: LabelTable) -> dict[str, Place]:
    """Place of each image that a file of splits names and the table has, by its name there.

    Images that only the file has are warned about.

    Raises:
        LabelFileError: the file breaks its format, or no image of the file is in it.
    """
    kept = _read_places(path)
    known = {row.name for row in table.rows}
    places = {name: place for name, place in kept.items() if name in known}
    if unknown := [name for name in kept if name not in known]:
        note = f"{len(unknown)} of {len(kept)} images are not in {table.path}, e.g. {', '.join(unknown[:3])}"
        if not places:
            raise LabelFileError.at(path, None, note)
        warnings.warn(f"{path}: {note}", DataWarning, stacklevel=2)
    return places


def _read_places(path: Path) -> dict[str, Place]:
    file = read_table_file(path)
    if set(file.columns) != set(_COLUMNS):
        expected, got = ", ".join(_COLUMNS), ", ".join(file.columns)
        raise LabelFileError.at(file.head, None, f"expected columns {expected}, got {got}")
    places: dict[str, Place] = {}
    for where, cells in file.rows:
        image, split, role = (cells.get(column) or "" for column in _COLUMNS)
        name = one_spelling(image)
        if not image or name in places:
            problem = f"image {image!r} comes twice" if image else f"no image name in column {_COLUMNS[0]!r}"
            raise LabelFileError.at(where, None, problem)
        if split not in SPLITS or role not in _ROLES_OF[split == "train"]:
            allowed = "train without a role, or validation or test with query, gallery or no role"
            raise LabelFileError.at(where, None, f"expected {allowed}, got split {split!r} and role {role!r}")
        places[name] = Place(split, role or None)
    if not places:
        raise LabelFileError.at(path, None, "holds no images")
    return places


def write_kept_splits(path: Path, splits: Mapping[str, Sequence[LabelledImage]]) -> Path:
    """Write splits, whose images are called as in the table, as a file that :func:`read_kept_splits` reads back."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for split, images in splits.items():
            for image in images:
                writer.writerow([image.name, split, "" if split == "train" else ROLES[image.roles[0]]])
    return path
