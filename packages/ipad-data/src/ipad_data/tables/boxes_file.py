"""Boxes in a JSON file of their own: ``{photo: {attribute: [x0, y0, x1, y1]}}``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ipad_data.errors import DataWarning, LabelFileError
from ipad_data.label_text import read_json
from ipad_data.regions import Regions, parse_boxes
from ipad_data.tables.label_table import LabelTable, one_spelling


def add_boxes(table: LabelTable, path: Path) -> LabelTable:
    """The table with the boxes of a file, which calls photos by their name in the table or by that name's stem.

    A box of the file takes the place of one that the table gives to the same attribute. Photos that the table does not
    have are warned about.

    Raises:
        LabelFileError: not such a file, a stem that several photos share, no photo of the table, a faulty box.
    """
    boxes = read_json(path)
    if not isinstance(boxes, dict) or not all(isinstance(of_photo, dict) for of_photo in boxes.values()):
        raise LabelFileError.at(path, None, "expected an object {photo: {attribute: [x0, y0, x1, y1]}}")
    numbers: dict[str, set[int]] = {}
    for number, row in enumerate(table.rows):
        for key in (row.name, PurePosixPath(row.name).stem):
            numbers.setdefault(key, set()).add(number)
    rows, unknown = list(table.rows), []
    for photo, of_photo in boxes.items():
        found = sorted(numbers.get(photo) or numbers.get(one_spelling(photo), ()))
        if len(found) > 1:
            names = ", ".join(table.rows[number].image for number in found[:3])
            raise LabelFileError.at(path, None, f"{photo!r} may be any of {names}; call photos by their full names")
        try:
            parsed = parse_boxes(of_photo, (*table.attributes, *table.others))
        except ValueError as error:
            raise LabelFileError.at(path, None, f"photo {photo!r}: {error}") from None
        if found:
            row = rows[found[0]]
            rows[found[0]] = replace(row, regions=Regions({**row.regions.boxes, **parsed}))
        else:
            unknown.append(photo)
    if unknown:
        text = f"{len(unknown)} of {len(boxes)} photos are not in {table.path}, e.g. {', '.join(unknown[:3])}"
        if len(unknown) == len(boxes):
            raise LabelFileError.at(path, None, text)
        warnings.warn(f"{path}: {text}", DataWarning, stacklevel=2)
    return replace(table, rows=rows)
