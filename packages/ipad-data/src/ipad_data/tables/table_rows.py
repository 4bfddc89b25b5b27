"""From the cells of a table file to the labels of its images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from ipad_data.errors import LabelFileError
from ipad_data.regions import Box, Regions, parse_boxes
from ipad_data.roles import SPLIT_NAMES
from ipad_data.tables.label_table import LabelTable, TableRow
from ipad_data.tables.table_files import read_table_file

IMAGE_COLUMNS = ("file_name", "image", "path", "filename", "file", "image_path")
SPLIT_COLUMN, ROLE_COLUMN, BOXES_COLUMN, BOX_SUFFIX = "split", "role", "boxes", "_box"
QUERY_FLAG, GALLERY_FLAG = "is_query", "is_gallery"  # as open-metric-learning has the roles
_ROLES = (ROLE_COLUMN, QUERY_FLAG, GALLERY_FLAG)
_ROLE_NAMES = {"query": "query", "gallery": "gallery", "candidate": "gallery"}

Cells = Mapping[str, Any]


def read_label_table(
    path: Path,
    image_column: str | None = None,
    attributes: Sequence[str] | None = None,
    value_separator: str | None = None,
    split: str | None = None,
) -> LabelTable:
    """Read a CSV, JSON lines or Parquet file of labels.

    Empty fields, null and missing keys mean "not labelled". Numbers and booleans become their text, a list holds
    several values. Boxes come as an object ``boxes`` of attribute -> box, or as columns ``<attribute>_box``. A column
    ``split`` gives the split; a column ``role``, or the columns ``is_query`` and ``is_gallery``, say who is query and who
    gallery in validation and test.

    Args:
        path: The file.
        image_column: Column of the image names; when None, the first of ``IMAGE_COLUMNS`` that the file has.
        attributes: Columns that are attributes, whatever their names; when None, all but those of image, split, role and
            boxes.
        value_separator: What separates several values of an attribute in a text; when None, a text is one value.
        split: Split that the file's folder stands for.

    Raises:
        LabelFileError: with file, and line or row: a file that cannot be read, a missing column, no rows, no image name,
            an image that comes twice (in any spelling), roles without splits, an unknown split or role, a value that is no
            text, a faulty box.
    """
    file = read_table_file(path)
    try:
        columns = _Columns.choose(file.columns, image_column, attributes, value_separator, split is not None)
    except ValueError as error:
        raise LabelFileError.at(file.head, None, str(error)) from None
    rows: list[TableRow] = []
    places: dict[str, str] = {}
    for place, cells in file.rows:
        try:
            row = columns.parse(cells, place, path.parent, split)
        except ValueError as error:
            raise LabelFileError.at(place, None, str(error)) from None
        if row.name in places:
            raise LabelFileError.at(place, None, f"image {row.image!r} comes twice, first at {places[row.name]}")
        places[row.name] = place
        rows.append(row)
    if not rows:
        raise LabelFileError.at(path, None, "holds no images")
    return LabelTable(path, columns.attributes, rows, columns.others)


@dataclass(frozen=True)
class _Columns:
    """What the columns of a table are; ``boxes`` maps a column of boxes to the attribute that they belong to, ``special``
    are those of split and role.
    """

    image: str
    attributes: tuple[str, ...]
    others: tuple[str, ...]
    boxes: dict[str, str]
    special: tuple[str, ...]
    value_separator: str | None

    @classmethod
    def choose(
        cls,
        names: list[str],
        image: str | None,
        attributes: Sequence[str] | None,
        value_separator: str | None,
        has_split: bool,
    ) -> Self:
        """Raises ``ValueError`` where the table lacks a column, or has roles that no split goes with."""
        names_of = f"{', '.join(IMAGE_COLUMNS)}, or the one named by image_column"
        wanted = f"{image!r} of image names" if image else f"of image names ({names_of})"
        image = image or next((name for name in IMAGE_COLUMNS if name in names), None)
        if image not in names:
            raise ValueError(f"expected a column {wanted}, got columns {', '.join(names)}")
        special = [name for name in (SPLIT_COLUMN, *_ROLES) if name in names and name not in (attributes or ())]
        roles = [name for name in special if name != SPLIT_COLUMN]
        if roles and not has_split and SPLIT_COLUMN not in special:
            raise ValueError(
                f"column {roles[0]!r} gives roles, which need a column {SPLIT_COLUMN!r} of train, validation and test; add "
                "it, or leave out the roles. If it is an attribute, name the attributes with attributes=[...]"
            )
        if ROLE_COLUMN in roles and len(roles) > 1:
            raise ValueError(
                f"columns {', '.join(map(repr, roles))} all give roles; leave out {ROLE_COLUMN!r} or the others"
            )
        meant = {name.lower(): name for name in (SPLIT_COLUMN, *_ROLES)}
        if alike := [name for name in names if name not in meant and name.lower() in meant and not attributes]:
            raise ValueError(
                f"column {alike[0]!r} must be called {meant[alike[0].lower()]!r} to give splits and roles; if it is an "
                "attribute, name the attributes with attributes=[...]"
            )
        free = [name for name in names if name not in (image, *special)]
        if unknown := [name for name in attributes or () if name not in free]:
            near = get_close_matches(unknown[0], free) or free
            raise ValueError(f"no column {unknown[0]!r}; did you mean one of: {', '.join(near)}?")
        named = tuple(attributes or ())
        boxes = {
            name: name.removesuffix(BOX_SUFFIX) for name in free if name.endswith(BOX_SUFFIX) and name not in named
        }
        candidates = [name for name in free if name in named or name not in (*boxes, BOXES_COLUMN)]
        for column, attribute in boxes.items():
            near = get_close_matches(attribute, candidates)
            if attribute not in candidates and (near or attributes is None):
                raise ValueError(
                    f"column {column!r} holds boxes of {attribute!r}, which is no column; did you mean one of: "
                    f"{', '.join(near or candidates)}? If it is an attribute itself, name the attributes with "
                    "attributes=[...]"
                )
        boxes = {column: attribute for column, attribute in boxes.items() if attribute in candidates}
        chosen = tuple(candidates if attributes is None else attributes)
        if not chosen or not all(chosen):
            raise ValueError(f"expected a named column per attribute, got columns {', '.join(names)!r}")
        others = tuple(name for name in candidates if name not in chosen)
        return cls(image, chosen, others, boxes, tuple(special), value_separator)

    def parse(self, cells: Cells, place: str, folder: Path, split: str | None) -> TableRow:
        """One image. Raises ``ValueError`` where a cell holds what it must not."""
        image = cells.get(self.image)
        if not isinstance(image, str) or not image.strip():
            raise ValueError(f"no image name in column {self.image!r}, got {image!r:.40}")
        values = {}
        for attribute in self.attributes:
            if names := _value_names(attribute, cells.get(attribute), self.value_separator):
                values[attribute] = names
        split = self._parse_split(cells, folder, split)
        role = self._parse_training_role(cells) if split == "train" else self._parse_role(cells)
        return TableRow(place, folder, image.strip(), values, split, role, Regions(self._parse_boxes(cells)))

    def _parse_split(self, cells: Cells, folder: Path, of_folder: str | None) -> str | None:
        if SPLIT_COLUMN not in self.special:
            return of_folder
        said = _choice(cells, SPLIT_COLUMN, SPLIT_NAMES)
        if of_folder is None and said is None:
            raise ValueError(f"no {SPLIT_COLUMN} given; it must be one of: {', '.join(SPLIT_NAMES)}")
        if of_folder is not None and said not in (None, of_folder):
            raise ValueError(
                f"the folder {folder.name!r} stands for {of_folder}, but column {SPLIT_COLUMN!r} says {said}"
            )
        return of_folder or said

    def _parse_role(self, cells: Cells) -> str | None:
        if ROLE_COLUMN in self.special:
            return _choice(cells, ROLE_COLUMN, _ROLE_NAMES)
        flags = {column: _flag(cells, column) for column in (QUERY_FLAG, GALLERY_FLAG) if column in self.special}
        if all(flag is None for flag in flags.values()):
            return None
        query = flags.get(QUERY_FLAG, not flags.get(GALLERY_FLAG))
        gallery = flags.get(GALLERY_FLAG, not flags.get(QUERY_FLAG))
        if bool(query) == bool(gallery):
            which = "both" if query else "neither"
            raise ValueError(
                f"{QUERY_FLAG} and {GALLERY_FLAG}: one of them must be true, got {which}. An image that is both would find "
                "itself; without the two columns queries are drawn"
            )
        return "query" if query else "gallery"

    def _parse_training_role(self, cells: Cells) -> None:
        """Nothing, or the word train; flags of queries and galleries say nothing of a training image."""
        role = _choice(cells, ROLE_COLUMN, {**_ROLE_NAMES, "train": None}) if ROLE_COLUMN in self.special else None
        if role is not None:
            raise ValueError(f"{ROLE_COLUMN} must be empty for images of the split train, got {role!r}")

    def _parse_boxes(self, cells: Cells) -> dict[str, list[Box]]:
        written = {attribute: cells.get(column) for column, attribute in self.boxes.items()}
        if BOXES_COLUMN not in self.attributes and cells.get(BOXES_COLUMN) not in (None, ""):
            if not isinstance(cells[BOXES_COLUMN], Mapping):
                raise ValueError(
                    f"{BOXES_COLUMN} must be an object of attribute: box, got {cells[BOXES_COLUMN]!r:.40}"
                )
            written |= cells[BOXES_COLUMN]
        return parse_boxes(written, (*self.attributes, *self.others))


def _value_names(attribute: str, cell: Any, separator: str | None) -> tuple[str, ...]:
    """Names of the values in a cell; whole numbers have no decimal point, as a column with gaps is read as floats."""
    texts: list[str] = []
    for item in cell if isinstance(cell, list) else [cell]:
        if isinstance(item, str):
            texts += item.split(separator) if separator else [item]
        elif isinstance(item, bool):
            texts.append(str(item).lower())
        elif isinstance(item, int) or (isinstance(item, float) and item.is_integer()):
            texts.append(str(int(item)))
        elif isinstance(item, float):
            texts += [] if math.isnan(item) else [str(item)]
        elif item is not None:
            raise ValueError(
                f"{attribute!r} must be text, a number, true or false, or a list of these; got {item!r:.60}. "
                "Name the columns that are attributes with attributes=[...]"
            )
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _choice(cells: Cells, column: str, names: dict[str, str]) -> str | None:
    text = cells.get(column)
    if text is None or text == "":
        return None
    if not isinstance(text, str) or text.lower() not in names:
        raise ValueError(f"{column} must be one of {', '.join(names)}; got {text!r:.40}")
    return names[text.lower()]


def _flag(cells: Cells, column: str) -> bool | None:
    """True or false, as tables have them; None where the cell is empty."""
    cell = cells.get(column)
    if cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell)):
        return None
    text = str(cell).lower().removesuffix(".0")
    if text not in ("true", "false", "1", "0"):
        raise ValueError(f"{column} must be true or false, got {cell!r:.40}")
    return text in ("true", "1")
