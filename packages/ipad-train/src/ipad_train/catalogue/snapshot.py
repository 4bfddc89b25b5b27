"""What the catalogue knows of all photos, in memory and by column: for lists, counts of values, and looking up ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ipad_train.catalogue.columns import ATTRIBUTE, Column
from ipad_train.catalogue.conditions import Condition
from ipad_train.catalogue.engine import Engine
from ipad_train.catalogue.fields import EXTRA, FILE, HASH, ID, payload_fields, unpack
from ipad_train.catalogue.manifest import Manifest
from ipad_train.catalogue.photo_table import NUMBER


class Snapshot:
    """All photos as they are when it is made: about 200 bytes a photo and column of texts, 8 of numbers, 2 of values.

    Attributes:
        ids, files, hashes: Of every photo, in the order of the ids.
        by_name: ``(N,)`` places of the photos in the order of their names.
    """

    def __init__(self, engine: Engine, manifest: Manifest) -> None:
        self.manifest = manifest
        count = len(manifest.attributes)
        rows = [unpack(row) for row in engine.iterate([name for name in payload_fields(count) if self._is_used(name)])]
        self.ids = [row[ID] for row in rows]
        self.files, self.hashes = [row[FILE] for row in rows], [row[HASH] for row in rows]
        self.place = {each: place for place, each in enumerate(self.ids)}
        self.values = np.array([[row.get(f"v{a}", -1) for a in range(count)] for row in rows], dtype=np.int16).reshape(
            len(rows), count
        )
        confidence = [[row.get(f"c{a}", np.nan) for a in range(count)] for row in rows]
        self.by_name = np.array(sorted(range(len(rows)), key=self.files.__getitem__), dtype=np.int64)
        self._cells: dict[str, np.ndarray] = {FILE: np.array(self.files, dtype=object)}
        self._cells |= {f"c{a}": np.array([row[a] for row in confidence], dtype=np.float32) for a in range(count)}
        for name, field in manifest.fields.items():
            kind = float if manifest.kinds[name] == NUMBER else object
            self._cells[field] = np.array([row.get(field) for row in rows], dtype=kind)
        self._known = {field: _known(cells) for field, cells in self._cells.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, column: Column) -> tuple[np.ndarray, np.ndarray]:
        """Cells ``(N,)`` and whether there is one: numbers, texts, or numbers of an attribute's values."""
        if column.kind == ATTRIBUTE:
            cells = self.values[:, int(column.field[1:])]
            return cells, cells >= 0
        return self._cells[column.field], self._known[column.field]

    def mask(self, condition: Condition | None) -> np.ndarray:
        """``(N,)`` photos that a condition leaves."""
        return np.ones(len(self), dtype=bool) if condition is None else condition.mask(self)

    def counts(self, mask: np.ndarray, attribute: int) -> dict[str, int]:
        """Value of an attribute -> photos of the mask that show it, in the order of the values."""
        names = list(self.manifest.values.values())[attribute]
        counted = np.bincount(self.values[mask, attribute] + 1, minlength=len(names) + 1)  # the first: not known
        return dict(zip(names, counted[1:].tolist(), strict=True))

    def describe(self, photo: str) -> dict[str, Any]:
        """A photo's name, values with confidence, and cells, by its id."""
        place = self.place[photo]
        shown: dict[str, Mapping[str, Any]] = {}
        for number, (name, values) in enumerate(self.manifest.values.items()):
            value = int(self.values[place, number])
            if value >= 0:
                shown[name] = {"value": values[value], "confidence": round(float(self._cells[f"c{number}"][place]), 3)}
        cells = {name: self._cells[field][place] for name, field in self.manifest.fields.items()}
        return {
            "id": photo,
            "file": self.files[place],
            "values": shown,
            "columns": {k: _plain(v) for k, v in cells.items()},
        }

    def _is_used(self, field: str) -> bool:
        return field in (FILE, HASH, EXTRA) or field[0] == "v" or field in self.manifest.fields.values()


def _known(cells: np.ndarray) -> np.ndarray:
    """``(N,)`` where there is a cell."""
    return ~np.isnan(cells) if cells.dtype != object else np.array([cell is not None for cell in cells], dtype=bool)


def _plain(cell: Any) -> float | str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return None if np.isnan(cell) else float(cell)
