"""Filters as people write them: ``price < 50 and (brand == 'x' or collar_design in ['shirt', 'stand'])``.

The text is read by this grammar only; nothing of it reaches the engine but numbers and quoted texts::

    filter     := all ("or" all)*
    all        := not ("and" not)*
    not        := "not" not | "(" filter ")" | test
    test       := name ("==" | "=" | "!=" | "<" | "<=" | ">" | ">=") literal | name ["not"] "in" "[" literal, ... "]"
    name       := letters, digits and _ with dots between, or anything within backticks
    literal    := a number, or a text in single or double quotes
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.expression_tokens import read_tokens

MAX_CHARACTERS, MAX_DEPTH, MAX_TESTS, MAX_LIST = 4000, 30, 100, 500
_OPERATORS = {"==": "==", "=": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = ("and", "or", "not", "in")
Literal: TypeAlias = float | str


@dataclass(frozen=True)
class Comparison:
    """``name operator literal``."""

    name: str
    operator: str
    value: Literal


@dataclass(frozen=True)
class Among:
    """``name in [values]``, or ``not in``."""

    name: str
    values: tuple[Literal, ...]
    negated: bool = False


@dataclass(frozen=True)
class Both:
    """``left and right``."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Either:
    """``left or right``."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Not:
    """``not inner``."""

    inner: Expression


Expression: TypeAlias = Comparison | Among | Both | Either | Not


def parse(text: str) -> Expression:
    """Read a filter.

    Raises:
        CatalogueError: it does not parse; the message shows where.
    """
    if len(text) > MAX_CHARACTERS:
        raise CatalogueError(f"the filter has {len(text)} characters, allowed are {MAX_CHARACTERS}")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth, self.tests = text, list(read_tokens(text)), 0, 0, 0

    def whole(self) -> Expression:
        found = self.either()
        if self.at < len(self.tokens):
            self.fail("expected 'and', 'or' or the end")
        return found

    def either(self) -> Expression:
        found = self.both()
        while self.take("name", "or"):
            found = Either(found, self.both())
        return found

    def both(self) -> Expression:
        found = self.negation()
        while self.take("name", "and"):
            found = Both(found, self.negation())
        return found

    def negation(self) -> Expression:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CatalogueError(f"the filter nests deeper than {MAX_DEPTH} levels")
        if self.take("name", "not"):
            found: Expression = Not(self.negation())
        elif self.take("sign", "("):
            found = self.either()
            self.expect("sign", ")")
        else:
            found = self.test()
        self.depth -= 1
        return found

    def test(self) -> Expression:
        self.tests += 1
        if self.tests > MAX_TESTS:
            raise CatalogueError(f"the filter has more than {MAX_TESTS} tests")
        name = self.column()
        negated = self.take("name", "not")
        if self.take("name", "in"):
            return Among(name, self.listed(), negated)
        if negated:
            self.fail("expected 'in'")
        kind, sign, _ = self.peek()
        if kind != "sign" or sign not in _OPERATORS:
            self.fail("expected ==, !=, <, <=, >, >= or 'in'")
        self.at += 1
        return Comparison(name, _OPERATORS[sign], self.literal())

    def column(self) -> str:
        kind, value, _ = self.peek()
        if kind == "quoted":
            self.at += 1
            return value[1:-1]
        if kind != "name" or value in _KEYWORDS:
            self.fail("expected the name of a column or attribute")
        self.at += 1
        return value

    def listed(self) -> tuple[Literal, ...]:
        self.expect("sign", "[")
        values = [self.literal()]
        while self.take("sign", ","):
            values.append(self.literal())
            if len(values) > MAX_LIST:
                raise CatalogueError(f"a list of the filter has more than {MAX_LIST} entries")
        self.expect("sign", "]")
        return tuple(values)

    def literal(self) -> Literal:
        kind, value, _ = self.peek()
        if kind not in ("number", "text"):
            self.fail("expected a number, or a text in quotes")
        self.at += 1
        return float(value) if kind == "number" else re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)

    def peek(self) -> tuple[str, str, int]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "", len(self.text))

    def take(self, kind: str, value: str) -> bool:
        if self.peek()[:2] != (kind, value):
            return False
        self.at += 1
        return True

    def expect(self, kind: str, value: str) -> None:
        if not self.take(kind, value):
            self.fail(f"expected {value!r}")

    def fail(self, expected: str) -> NoReturn:
        _, value, place = self.peek()
        raise CatalogueError(
            f"the filter does not parse at {place + 1}, {value[:40]!r}: {expected}. Example: price < 50 and brand == 'x'"
            if value
            else f"the filter ends too early: {expected}. Example: price < 50 and brand == 'x'"
        )
