"""Configurations for `accelerate launch --config_file`, which ship with the package."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable


def launch_configs() -> dict[str, str]:
    """Text of every configuration by its name."""
    files = [entry for entry in _folder().iterdir() if entry.name.endswith(".yaml")]
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in sorted(files, key=_name)}


def launch_config(name: str) -> str:
    """Text of one configuration.

    Raises:
        ValueError: there is none of that name; the message lists the nearest.
    """
    texts = launch_configs()
    if name not in texts:
        near = get_close_matches(name, texts) or sorted(texts)
        raise ValueError(f"no launch configuration {name!r}; there are: {', '.join(near)}")
    return texts[name]


def describe_launch_configs() -> str:
    """A line for each configuration: its name, and what it is for."""
    texts = launch_configs()
    width = max(map(len, texts))
    return "\n".join(f"{name:<{width}}  {text.splitlines()[0].lstrip('# ')}" for name, text in texts.items())


def _folder() -> Traversable:
    return resources.files("ipad_train") / "configs" / "launch"


def _name(entry: Traversable) -> str:
    return entry.name
