"""A filter that was checked against a catalogue's columns: an expression of the engine, or a mask over photos at hand.

A photo without a cell, or without a predicted value, passes no test on it, also not one with ``!=`` or under ``not``. So
``not`` is carried inwards to the tests, which are turned round, and both readings agree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ipad_train.catalogue.columns import ATTRIBUTE, Column, Columns
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.expression import Among, Both, Comparison, Either, Expression, Literal, Not, parse
from ipad_train.catalogue.fields import in_expression
from ipad_train.catalogue.photo_table import NUMBER

if TYPE_CHECKING:
    from ipad_train.catalogue.snapshot import Snapshot

_TURNED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_COMPARE = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True)
class Compared:
    """A column against a literal: a number, a text, or the number of an attribute's value."""

    column: Column
    operator: str
    value: Literal

    def expression(self) -> str:
        name = in_expression(self.column.field)
        known = f" and {name} >= 0" if self.column.kind == ATTRIBUTE else ""
        return f"({name} {self.operator} {_literal(self.value, self.column)}{known})"

    def mask(self, photos: Snapshot) -> np.ndarray:
        cells, known = photos.column(self.column)
        mask = np.zeros(len(known), dtype=bool)
        mask[known] = _COMPARE[self.operator](cells[known], self.value).astype(bool)
        return mask


@dataclass(frozen=True)
class Listed:
    """A column whose cell is one of several, or none of them."""

    column: Column
    values: tuple[Literal, ...]
    negated: bool

    def expression(self) -> str:
        name = in_expression(self.column.field)
        listed = ", ".join(_literal(value, self.column) for value in self.values)
        known = f" and {name} >= 0" if self.column.kind == ATTRIBUTE else ""
        return f"({name} {'not in' if self.negated else 'in'} [{listed}]{known})"

    def mask(self, photos: Snapshot) -> np.ndarray:
        cells, known = photos.column(self.column)
        chosen = set(self.values)
        inside = np.fromiter((cell in chosen for cell in cells.tolist()), dtype=bool, count=len(cells))
        return known & (inside != self.negated)


@dataclass(frozen=True)
class Joined:
    """Conditions of which all, or any, hold."""

    parts: tuple[Condition, ...]
    every: bool

    def expression(self) -> str:
        return "(" + (" and " if self.every else " or ").join(part.expression() for part in self.parts) + ")"

    def mask(self, photos: Snapshot) -> np.ndarray:
        masks = [part.mask(photos) for part in self.parts]
        return np.logical_and.reduce(masks) if self.every else np.logical_or.reduce(masks)


Condition: TypeAlias = Compared | Listed | Joined


def read_filter(text: str | None, columns: Columns) -> Condition | None:
    """A filter's text as a condition; None where it is empty.

    Raises:
        CatalogueError: it does not parse, names what is no column, or compares a number with a text.
    """
    if text is None or not text.strip():
        return None
    return _checked(parse(text), columns, False)


def facet_condition(facets: dict[str, Sequence[str]], columns: Columns) -> Condition | None:
    """Photos that show, for every attribute named, one of the values chosen; None where nothing is chosen.

    Raises:
        CatalogueError: an attribute or value that the model does not have.
    """
    parts = []
    for name, values in facets.items():
        if values:
            column = columns.find(name)
            if column.kind != ATTRIBUTE:
                raise CatalogueError(f"facets are attributes, and {name!r} is a column; put it into the filter")
            parts.append(_listed(column, tuple(values), False))
    return joined(parts)


def joined(parts: Sequence[Condition | None]) -> Condition | None:
    """All of the conditions there are; None for none."""
    there = tuple(part for part in parts if part is not None)
    return Joined(there, True) if len(there) > 1 else (there[0] if there else None)


def _checked(found: Expression, columns: Columns, negated: bool) -> Condition:
    if isinstance(found, Not):
        return _checked(found.inner, columns, not negated)
    if isinstance(found, (Both, Either)):
        parts = (_checked(found.left, columns, negated), _checked(found.right, columns, negated))
        return Joined(parts, isinstance(found, Both) != negated)
    column = columns.find(found.name)
    if isinstance(found, Among):
        return _listed(column, found.values, found.negated != negated)
    return _compared(column, found, negated)


def _compared(column: Column, test: Comparison, negated: bool) -> Compared:
    operator = _TURNED[test.operator] if negated else test.operator
    if column.kind != NUMBER and operator not in ("==", "!="):
        raise CatalogueError(
            f"{column.name!r} holds {_holds(column)}, which only == , != and in compare, got {test.operator}"
        )
    return Compared(column, operator, _value(column, test.value))


def _listed(column: Column, values: Sequence[Literal], negated: bool) -> Listed:
    return Listed(column, tuple(_value(column, value) for value in values), negated)


def _value(column: Column, value: Literal) -> Literal:
    if column.kind == ATTRIBUTE:
        if value not in column.values:
            near = get_close_matches(str(value), column.values) or column.values
            raise CatalogueError(f"{column.name!r} has no value {value!r}; its values: {', '.join(near) or 'unknown'}")
        return float(column.values.index(value))
    if (column.kind == NUMBER) != isinstance(value, float):
        raise CatalogueError(f"{column.name!r} holds {_holds(column)}, and the filter compares it with {value!r}")
    if isinstance(value, str) and any(ord(letter) < 32 for letter in value):
        raise CatalogueError(f"texts of a filter hold no control characters, got {value!r}")
    return value


def _holds(column: Column) -> str:
    return {NUMBER: "numbers", ATTRIBUTE: "names of values"}.get(column.kind, "texts")


def _literal(value: Literal, column: Column) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # quoted, with quotes and backslashes escaped
    return str(int(value)) if column.kind == ATTRIBUTE else repr(value)
