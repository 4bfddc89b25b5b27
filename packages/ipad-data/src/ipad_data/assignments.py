"""``KEY=VALUE`` on a command line, read in one way by all ipad commands."""

from __future__ import annotations

from typing import Any

import yaml


def parse_assignment(text: str) -> tuple[str, Any]:
    """Key and value of ``KEY=VALUE``; the value is YAML: ``3``, ``true``, ``null``, ``[1, 2]``, else a text.

    Raises:
        ValueError: no ``=`` or no key, or a value that is not valid YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValueError(f"an option must read KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"the value of {key!r} is not valid YAML: {value!r}") from None
