"""A key of the configuration: its default, and the sentence that `ipad-train configs --keys` prints for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def option(default: Any, help: str) -> Any:
    """A field of a configuration's dataclass.

    Args:
        default: Its value where nothing else is said; a function for one that is made anew each time.
        help: What it means, with its unit; symbols in brackets are the paper's.
    """
    metadata = {"help": help}
    if isinstance(default, Callable):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ``ValueError`` that names a key, what came and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


def one_of(choices: tuple[str, ...]) -> str:
    """Choices as a message lists them."""
    return " or ".join(map(repr, choices))
