"""What a catalogue says of itself: its model, its photo folder, its columns. Kept in the engine, beside the vectors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ipad_train.catalogue.engine import ABOUT, Engine
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import ID, VECTOR
from ipad_train.value_centers import ValueCenters

FORMAT, VERSION = "ipad-catalogue", 1
_CHUNK = 60_000  # bytes of text in a row
_MANIFEST, _CENTER = "manifest", "center"


@dataclass(frozen=True)
class Manifest:
    """What a catalogue was made of.

    Attributes:
        source: The model as the user named it: a path, or a hub repository.
        fingerprint: Of the model, see :class:`~ipad_train.catalogue.model.CatalogueModel`.
        values: Attribute name -> names of its values.
        dim: D of one attribute.
        detail_size: Side in pixels of the squares that photos are decoded to.
        folder: The photo folder, absolute.
        kinds: Column name -> ``number`` or ``text``.
        fields: Column name -> field of the engine.
        temperatures: Of the confidences, one an attribute.
        updated: When the last photo was written, ISO 8601; changes with every write.
        index: Index of the engine, one of ``INDEXES``.
    """

    source: str
    fingerprint: str
    values: dict[str, list[str]]
    dim: int
    detail_size: int
    folder: str
    kinds: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    temperatures: list[float] = field(default_factory=list)
    updated: str = ""
    index: str = "FLAT"

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names in the order of their ids."""
        return tuple(self.values)

    @property
    def made_by(self) -> dict[str, Any]:
        """What :func:`~ipad_train.catalogue.model.check_same_model` compares."""
        return {"source": self.source, "fingerprint": self.fingerprint, "values": self.values}


def write_manifest(engine: Engine, manifest: Manifest) -> None:
    """Store a manifest in place of the one before; the row that says how long it is comes last."""
    text = json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}).encode()
    parts = [text[i : i + _CHUNK].decode("ascii") for i in range(0, len(text), _CHUNK)]
    nothing = np.zeros(manifest.dim, dtype=np.float32)
    rows = [{ID: f"{_MANIFEST}:{i}", "text": part, VECTOR: nothing} for i, part in enumerate(parts)]
    engine.write([*rows, {ID: _MANIFEST, "text": str(len(parts)), VECTOR: nothing}], ABOUT)


def read_manifest(engine: Engine) -> Manifest | None:
    """The manifest; None where the catalogue was never finished being made.

    Raises:
        CatalogueError: of another program or version.
    """
    head = engine.rows([_MANIFEST], ["text"], ABOUT)
    if not head:
        return None
    names = [f"{_MANIFEST}:{i}" for i in range(int(head[_MANIFEST]["text"]))]
    rows = engine.rows(names, ["text"], ABOUT)
    try:
        content: Mapping[str, Any] = json.loads("".join(rows[name]["text"] for name in names))
        known = {each.name for each in dataclasses.fields(Manifest)}
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise CatalogueError(
                f"{engine.where} has the format {content['format']!r} in version {content['version']}; this release reads "
                f"{FORMAT!r} in version {VERSION}. Index it again with --rebuild"
            )
        return Manifest(**{name: value for name, value in content.items() if name in known})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise CatalogueError(
            f"{engine.where}: its manifest is damaged ({error!r}); index it again with --rebuild"
        ) from None


def write_centers(engine: Engine, centers: ValueCenters) -> None:
    """Store the centers of the values."""
    rows = [{ID: f"{_CENTER}:{i}", "text": "", VECTOR: center} for i, center in enumerate(centers.centers)]
    engine.write(rows, ABOUT)


def read_centers(engine: Engine, manifest: Manifest) -> ValueCenters:
    """The centers of the values."""
    num_values = tuple(map(len, manifest.values.values()))
    ids = [f"{_CENTER}:{i}" for i in range(sum(num_values))]
    rows = engine.rows(ids, [VECTOR], ABOUT)
    centers = np.zeros((len(ids), manifest.dim), dtype=np.float32)
    for place, name in enumerate(ids):
        if name in rows:
            centers[place] = rows[name][VECTOR]
    return ValueCenters(centers, num_values, np.asarray(manifest.temperatures, dtype=np.float32))
