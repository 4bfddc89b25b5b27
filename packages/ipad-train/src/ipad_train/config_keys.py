"""Help for every key of the configuration, from the dataclasses themselves."""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from ipad_train.config import STAGE_NAMES, RunConfig


@dataclass(frozen=True)
class Key:
    """A key that a configuration may set: its dotted ``name``, ``type`` and ``default`` as written, and its ``help``."""

    name: str
    type: str
    default: str
    help: str


def all_keys(cls: type = RunConfig, prefix: str = "") -> Iterator[Key]:
    """Every key in the order of a configuration; those of a stage once, as ``stageN.*``."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        if not dataclasses.is_dataclass(hint):
            yield Key(name, str(field.type), _written(field), field.metadata["help"])
        elif name not in STAGE_NAMES[1:]:
            yield from all_keys(hint, "stageN." if name in STAGE_NAMES else f"{name}.")


def describe_keys(prefix: str | None = None, width: int = 110) -> str:
    """Every key with its type, default and meaning; of a ``prefix`` such as ``loop`` or ``stage1.steps`` those below it.

    Raises:
        ValueError: no key begins so; the nearest are named.
    """
    keys = list(all_keys())
    if prefix is not None:
        wanted = ".".join("stageN" if part in STAGE_NAMES else part for part in prefix.rstrip(".").split("."))
        found = [key for key in keys if f"{key.name}.".startswith(f"{wanted}.")]
        if not found:
            sections = sorted({key.name.partition(".")[0] for key in keys})
            near = get_close_matches(wanted, [*(key.name for key in keys), *sections]) or sections
            raise ValueError(f"no configuration key begins with {prefix!r}; nearest: {', '.join(near)}")
        keys = found
    lines = []
    for key in keys:
        lines.append(f"{key.name}={key.default}  ({key.type})")
        lines += textwrap.wrap(key.help, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _written(field: dataclasses.Field) -> str:
    missing = field.default is dataclasses.MISSING
    return json.dumps(field.default_factory() if missing else field.default)
