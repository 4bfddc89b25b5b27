"""Constructors whose arguments are remembered, in the form that comes back from ``config.json``."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from ipad_core.backbones import TRUNK_ARGUMENTS, trunk_mapping


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that leaves its arguments in ``self.options``, and empty facts in ``self.about``.

    Raises (when called):
        TypeError: an argument that does not fit into JSON, or has no name.
        ValueError: ``num_attributes`` is no whole number, or below one.
    """

    @functools.wraps(init)
    def recorded_init(self: Any, *args: Any, **options: Any) -> None:
        recorded = _arguments(init, self, args, options)
        count = recorded.get("num_attributes", 1)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"num_attributes must be positive, a whole number, got {count!r}")
        for argument in set(TRUNK_ARGUMENTS) & set(recorded):
            recorded[argument] = trunk_mapping(recorded[argument], argument)
        try:  # a copy, in the form that comes back from config.json
            recorded = json.loads(json.dumps(recorded))
        except TypeError as error:
            raise TypeError(f"the options of {type(self).__name__} must fit into JSON: {error}") from None
        init(self, *args, **options)
        self.options, self.about = recorded, {}

    return recorded_init


def _arguments(init: Callable[..., None], self: Any, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, defaults and the content of its ``**options`` among them."""
    signature = inspect.signature(init)
    bound = signature.bind(self, *args, **options)
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.pop(name):
            raise TypeError(f"arguments of a network are saved by name; *{name} has none")
    return arguments
