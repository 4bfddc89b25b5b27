"""The mapping ``trunk`` that every network takes: its keys, and how one is laid over another.

``semantic_trunk`` of IPAD is such a mapping as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from ipad_core.backbones.trunk import Trunk
from ipad_core.backbones.vectors import Vectors

TRUNK_ARGUMENTS = ("trunk", "semantic_trunk")
VECTORS = "vectors"  # the name that stands for no network, but vectors that are at hand
TRUNK_KEYS = tuple(key for key in list(inspect.signature(Trunk).parameters) if key != "image_size")


def build_trunk(trunk: str | Mapping[str, Any], image_size: int) -> Trunk | Vectors:
    """The trunk that a mapping describes.

    Args:
        trunk: Arguments of :class:`Trunk` but for ``image_size``, e.g. ``{"name": "resnet50", "pretrained": True}``; or
            the name alone. ``{"name": "vectors", "options": {"dim": 512}}`` is :class:`Vectors`.
        image_size: Side of the images, px.

    Raises:
        TypeError: no mapping, or a key that :class:`Trunk` does not take; vectors with other keys than options.dim.
        ValueError, FileNotFoundError: as :class:`Trunk`.
    """
    mapping = trunk_mapping(trunk)
    if mapping.get("name") != VECTORS:
        return Trunk(**mapping, image_size=image_size)
    options = mapping.get("options") or {}
    others = [key for key, value in mapping.items() if key not in ("name", "options") and value]
    if others or set(options) != {"dim"}:
        raise TypeError(f"the trunk 'vectors' takes options {{'dim': N}} and nothing else, got {mapping}")
    return Vectors(**options)


def trunk_mapping(trunk: str | Mapping[str, Any], argument: str = "trunk") -> dict[str, Any]:
    """A copy of the mapping, or the mapping of a name, after a look at its keys.

    Raises:
        TypeError: no mapping, or an unknown key; the message names the nearest.
    """
    if isinstance(trunk, str):
        return {"name": trunk}
    if not isinstance(trunk, Mapping):
        raise TypeError(f"{argument} must be the name of a network or a mapping, got {trunk!r}")
    for key in trunk:
        if key not in TRUNK_KEYS:
            near = get_close_matches(str(key), TRUNK_KEYS) or TRUNK_KEYS
            raise TypeError(f"{argument} has no key {key!r}; did you mean one of: {', '.join(near)}?")
    return dict(trunk)


def overlay_options(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network with changes over them.

    Trunks are merged key by key (``options`` of timm whole), so that ``{"pretrained": True}`` changes just that. A
    mapping that names another network stands alone: stages and options of one network mean nothing to another.

    Raises:
        TypeError: as :func:`trunk_mapping`.
    """
    merged = {**options, **changes}
    for argument in TRUNK_ARGUMENTS:
        if argument in options and argument in changes:
            base, change = (trunk_mapping(mapping[argument], argument) for mapping in (options, changes))
            same = _architecture(change.get("name", base.get("name"))) == _architecture(base.get("name"))
            merged[argument] = {**base, **change} if same else change
    return merged


def without_weights(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a network that look for no weights, because its own are at hand.

    Raises:
        TypeError: as :func:`trunk_mapping`.
    """
    cleaned = dict(options)
    for argument in TRUNK_ARGUMENTS:
        if argument in options:
            mapping = trunk_mapping(options[argument], argument)
            cleaned[argument] = {key: value for key, value in mapping.items() if key not in ("pretrained", "weights")}
    return cleaned


def _architecture(name: str | None) -> str | None:
    return None if name is None else name.partition(".")[0]
