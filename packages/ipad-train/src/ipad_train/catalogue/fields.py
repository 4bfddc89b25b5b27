"""The fields of a photo in the engine, and what the user's names stand for among them.

Filters use fields of their own, which the engine reads fast: ``v0, v1, ...`` hold the predicted value of an attribute as a
number (-1 where none is known), ``n0, n1, ...`` the numbers and ``s0, s1, ...`` the texts of the table. Servers take 64
fields; what there is no room for lies in the JSON field ``extra``, as do confidences ``c0, c1, ...`` and boxes. Filters
work there as well, slower. No name of the user's ever stands in an expression of the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ipad_train.catalogue.photo_table import NUMBER, TEXT

ID, FILE, HASH, SIZE = "id", "file", "hash", "size"
MTIME, TABLE, EXTRA, VECTOR = "mtime", "table_digest", "extra", "vector"
MAX_DIM = 32_768
VALUES_OF_OWN, NUMBERS_OF_OWN, TEXTS_OF_OWN = 30, 12, 12
BOXES = "boxes"
STATE = (FILE, HASH, SIZE, MTIME, TABLE)


@dataclass(frozen=True)
class Field:
    """A field of the collection, its type among pymilvus' ``DataType`` and the type's options."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


def fields_of_own(attributes: int) -> list[Field]:
    """All fields but the id and the vector, for A attributes."""
    text = {"max_length": 4096, "nullable": True}
    return [
        Field(FILE, "VARCHAR", {"max_length": 2048}),
        Field(HASH, "VARCHAR", {"max_length": 32}),
        Field(SIZE, "INT64"),
        Field(MTIME, "INT64"),
        Field(TABLE, "VARCHAR", {"max_length": 16}),
        Field(EXTRA, "JSON"),
        *(Field(f"v{i}", "INT16") for i in range(min(attributes, VALUES_OF_OWN))),
        *(Field(f"n{i}", "DOUBLE", {"nullable": True}) for i in range(NUMBERS_OF_OWN)),
        *(Field(f"s{i}", "VARCHAR", text) for i in range(TEXTS_OF_OWN)),
    ]


def is_of_own(name: str) -> bool:
    """Whether a field such as ``n3`` is one of the collection, not a key of ``extra``."""
    if name == FILE:
        return True
    limits = {"v": VALUES_OF_OWN, "n": NUMBERS_OF_OWN, "s": TEXTS_OF_OWN, "c": 0}
    return int(name[1:]) < limits[name[0]]


def in_expression(name: str) -> str:
    """How an expression of the engine calls a field such as ``n3``."""
    return name if is_of_own(name) else f'{EXTRA}["{name}"]'


def assign_columns(kinds: Mapping[str, str], taken: Mapping[str, str] | None = None) -> dict[str, str]:
    """Column name -> field name; columns that have a field keep it, new ones get the next free."""
    fields = dict(taken or {})
    for kind, letter in ((NUMBER, "n"), (TEXT, "s")):
        used = sum(name.startswith(letter) for name in fields.values())
        for column in kinds:
            if kinds[column] == kind and column not in fields:
                fields[column] = f"{letter}{used}"
                used += 1
    return fields


def pack(values: Mapping[str, Any], attributes: int) -> dict[str, Any]:
    """Fields of a row from values by field name: those with a field of their own, the rest in ``extra``.

    Args:
        values: ``v0``, ``c0``, ``n0``, ``s0`` ... and ``boxes``; numbers and texts that are absent become None.
    """
    row: dict[str, Any] = {f"n{i}": None for i in range(NUMBERS_OF_OWN)} | {f"s{i}": None for i in range(TEXTS_OF_OWN)}
    row |= {f"v{i}": -1 for i in range(min(attributes, VALUES_OF_OWN))}
    extra = {}
    for name, value in values.items():
        if name != BOXES and is_of_own(name):
            row[name] = value
        elif value is not None:
            extra[name] = value
    return row | {EXTRA: extra}


def unpack(row: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`pack`: all values by field name, those in ``extra`` among them."""
    extra = row.get(EXTRA) or {}
    return {name: value for name, value in row.items() if name not in (EXTRA, VECTOR)} | dict(extra)


def payload_fields(attributes: int) -> list[str]:
    """Names of all fields but id and vector, to be asked for in a search."""
    return [each.name for each in fields_of_own(attributes)]
