"""Results of a search on the terminal: a table, JSON, or a picture of the photos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ipad_data.errors import ImageDecodeError
from ipad_data.transforms.decode import open_image
from ipad_train.catalogue.errors import PhotoError
from ipad_train.catalogue.photo_files import read_photo
from ipad_train.catalogue.searching import Found

_CELL, _CAPTION, _COLUMNS = 200, 34, 5
_PAPER, _INK, _GRAY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def as_dict(found: Found, rank: int) -> dict[str, Any]:
    """A hit as JSON values, with its rank from 1."""
    hit = asdict(found)
    hit.pop("hash")
    return {"rank": rank, **hit, "score": round(found.score, 5), "similarity": round(found.similarity, 5)}


def to_json(found: Sequence[Found]) -> str:
    """Hits as a JSON list."""
    return json.dumps([as_dict(each, rank) for rank, each in enumerate(found, 1)], ensure_ascii=False, indent=1)


def to_table(found: Sequence[Found], weights: Mapping[str, float], with_ranks: bool) -> str:
    """Hits as a table: rank, similarity, the values of the attributes asked for, columns, id and file."""
    if not found:
        return "no photo passes the filter"
    columns = list(found[0].columns)
    asked = [name for name, weight in weights.items() if weight]
    lines = [["", *(["before"] if with_ranks else []), "similarity", *asked, *columns, "id", "file"]]
    for rank, each in enumerate(found, 1):
        values = [_value(each.values.get(name)) for name in asked]
        cells = [_cell(each.columns[name]) for name in columns]
        before = [str(each.rank_before)] if with_ranks else []
        lines.append([str(rank), *before, f"{each.similarity:.3f}", *values, *cells, each.id, each.file])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _value(shown: Mapping[str, Any] | None) -> str:
    return "-" if shown is None else f"{shown['value']} {100 * shown['confidence']:.0f} %"


def _cell(cell: Any) -> str:
    text = "-" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= 30 else text[:29] + "…"


def write_contact_sheet(found: Sequence[Found], folder: Path, query: Image.Image, title: str, out: Path) -> None:
    """A JPEG or PNG with the query and the hits, five in a row, each with its rank, similarity and name.

    A photo that can no longer be read has an empty cell that says so.

    Raises:
        OSError, ValueError: the file cannot be written.
    """
    cells = [(query, "query", title)]
    for rank, each in enumerate(found, 1):
        try:
            picture = open_image(read_photo(folder, each.file), _CELL, each.file)
        except (PhotoError, ImageDecodeError):
            picture = None
        cells.append((picture, f"{rank}.  {each.similarity:.3f}", each.file))
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _CAPTION)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (picture, head, name) in enumerate(cells):
        x, y = place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _CAPTION)
        if picture is None:
            draw.text((x + 8, y + 90), "cannot be read", fill=_GRAY)
        else:
            small = picture.copy()
            small.thumbnail((_CELL - 8, _CELL - 8))
            sheet.paste(small, (x + (_CELL - small.width) // 2, y + (_CELL - small.height) // 2))
        draw.text((x + 8, y + _CELL), head, fill=_INK)
        draw.text((x + 8, y + _CELL + 14), name if len(name) <= 30 else "…" + name[-29:], fill=_GRAY)
    sheet.save(out, quality=88)
