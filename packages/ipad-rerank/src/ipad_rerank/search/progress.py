"""Progress of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0


def progress_over(items: Iterable[T], label: str, show: bool | None, length: int | None = None) -> Iterator[T]:
    """Yield ``items`` and say how far it is; work of a few steps, or of less than half a minute, stays silent.

    Args:
        items: What to go through.
        label: What is done, in a word.
        show: True shows a bar, False nothing; None a bar on a terminal and lines elsewhere.
        length: How many there are, where the items cannot be counted.
    """
    length = len(items) if length is None else length
    as_lines = show is None and not sys.stderr.isatty()
    if show or (show is None and length >= 4 and not as_lines):
        with click.progressbar(items, length=length, label=label, file=sys.stderr) as bar:
            yield from bar
        return
    start = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if as_lines and done and now - said >= SECONDS_BETWEEN_LINES:
            said, left = now, in_words((now - start) / done * (length - done))
            click.echo(f"{label}: {done} of {length}, about {left} left", err=True)
        yield item


def in_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
