"""A progress bar on standard error for long work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

T = TypeVar("T")


def progress_over(items: Iterable[T], length: int, label: str, show: bool | None) -> Iterator[T]:
    """Yield ``items`` behind a bar; ``show`` None shows it on a terminal when there are at least four steps."""
    if show is None:
        show = sys.stderr.isatty() and length >= 4
    if not show:
        yield from items
        return
    with click.progressbar(items, length=length, label=label, file=sys.stderr) as bar:
        yield from bar
