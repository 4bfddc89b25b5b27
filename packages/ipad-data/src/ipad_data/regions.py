"""Where the value of an attribute is to be seen in a photo: boxes, as people write them and as shares of the photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

Box = tuple[float, float, float, float]
BOX_FORMATS = ("shares", "pixels")
_ROUNDING = 1e-6  # what a share may exceed [0, 1] by


@dataclass(frozen=True)
class Regions:
    """What is known of a photo's regions, as boxes ``x0, y0, x1, y1``.

    Attributes:
        boxes: Attribute -> boxes of its value.
        chance: Attribute -> share of the subject's pixels within these boxes, where it was measured.
        subject: Box of what the photo shows, the person; None where that is not known.
    """

    boxes: Mapping[str, Sequence[Box]] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    subject: Box | None = None


def parse_boxes(written: Mapping[str, Any], attributes: Sequence[str]) -> dict[str, list[Box]]:
    """Boxes by attribute, as people write them.

    Args:
        written: Attribute -> four numbers, or a list of boxes of four numbers, or the four numbers as text; None, an
            empty list and an empty text stand for no box.
        attributes: The attributes that may have boxes.

    Raises:
        ValueError: another attribute, something other than boxes, a box that is empty or the wrong way round.
    """
    boxes = {}
    for attribute, value in written.items():
        if isinstance(value, str):
            value = value.replace(",", " ").replace(";", " ").split()
        if not value and value != 0:
            continue
        if attribute not in attributes:
            near = get_close_matches(attribute, attributes) or attributes
            raise ValueError(f"a box of {attribute!r}, which is no attribute; did you mean one of: {', '.join(near)}?")
        nested = isinstance(value, list) and all(isinstance(part, list) for part in value)
        boxes[attribute] = [_parse_box(attribute, box) for box in (value if nested else [value])]
    return boxes


def _parse_box(attribute: str, value: Any) -> Box:
    try:
        x0, y0, x1, y1 = (float(number) for number in value)
    except (TypeError, ValueError):
        raise ValueError(f"a box of {attribute!r} must be four numbers x0, y0, x1, y1; got {value!r}") from None
    if not (math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1):
        raise ValueError(f"a box of {attribute!r} must have x0 < x1 and y0 < y1; got {value!r}")
    return x0, y0, x1, y1


def as_shares(boxes: Mapping[str, Sequence[Box]], size: tuple[int, int] | None) -> dict[str, list[Box]]:
    """Boxes in shares of the photo, all of them within it.

    Args:
        boxes: Attribute -> boxes.
        size: Width and height of the photo where the boxes are in pixels; None where they are in shares.

    Raises:
        ValueError: a box leaves the photo.
    """
    width, height = size or (1, 1)
    shares = {}
    for attribute, found in boxes.items():
        scaled = [(x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in found]
        for box, written in zip(scaled, found, strict=True):
            if min(box) < -_ROUNDING or max(box) > 1 + _ROUNDING:
                allowed = (
                    "boxes are shares within [0, 1] (box_format='pixels' takes pixels)"
                    if size is None
                    else f"it has {width} x {height} pixels"
                )
                raise ValueError(f"the box {list(written)} of {attribute!r} leaves the photo; {allowed}")
        shares[attribute] = [tuple(min(max(share, 0.0), 1.0) for share in box) for box in scaled]
    return shares
