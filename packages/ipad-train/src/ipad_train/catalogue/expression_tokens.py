"""The words of a filter: numbers, quoted texts, names and signs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipad_train.catalogue.errors import CatalogueError

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`[^`]+`)
    |(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    |(?P<sign>==|!=|<=|>=|<|>|=|\(|\)|\[|\]|,)
    )""",
    re.VERBOSE | re.DOTALL,
)


def read_tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind (number, text, quoted, name or sign), text and place of every token.

    Raises:
        CatalogueError: something that is none of these; the message shows where.
    """
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].strip()
            raise CatalogueError(f"the filter does not parse at {text.index(rest, place) + 1}, {rest[:40]!r}")
        kind = match.lastgroup
        yield kind, match[kind], match.start(kind)
        place = match.end()
