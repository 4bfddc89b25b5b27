"""Names of networks, and what builds them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipad_core.models.embedder import AttributeEmbedder

Builder = Callable[..., "AttributeEmbedder"]
_BUILDERS: dict[str, Builder] = {}


def register_model(builder: Builder) -> Builder:
    """Make a class or function known under its name (a class: its ``architecture``); usable as a decorator.

    Raises:
        ValueError: the name is taken.
    """
    name = getattr(builder, "architecture", None) or builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"a model named {name!r} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_models(pattern: str = "*") -> list[str]:
    """Names of all networks, or of those that match a shell pattern such as ``ipad*``."""
    return sorted(name for name in _BUILDERS if fnmatch(name, pattern))


def create_model(name: str, **options: Any) -> AttributeEmbedder:
    """Build a network by name.

    Args:
        name: One of :func:`list_models`.
        options: Passed on unfiltered, so that a misspelt one is a ``TypeError``. All networks take
            ``num_attributes``; the docstring of each class lists the rest.

    Raises:
        ValueError: no such network; the message lists the nearest names.

    Example:
        >>> model = create_model("ipad_tiny", num_attributes=6)
    """
    return _builder(name)(**options)


def model_options(name: str) -> list[str]:
    """Names of the arguments that a network takes; a preset such as ``ipad_tiny`` hands all that it gets on, and names none.

    Raises:
        ValueError: no such network; the message lists the nearest names.

    Example:
        >>> model_options("csn")
        ['num_attributes', 'embed_dim', 'image_size', 'trunk', 'position_channels']
    """
    parameters = inspect.signature(_builder(name)).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]


def _builder(name: str) -> Builder:
    if name not in _BUILDERS:
        near = get_close_matches(name, _BUILDERS) or list_models()
        raise ValueError(f"unknown model {name!r}; did you mean one of: {', '.join(near)}?")
    return _BUILDERS[name]
