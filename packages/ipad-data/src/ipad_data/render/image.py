"""One rendered image: a pure function of (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ipad_data.render.attributes import Garment
from ipad_data.render.canvas import Canvas, Placement, Point
from ipad_data.render.clothes import draw_bottom, draw_top
from ipad_data.render.figure import FOOT_Y, HIP_Y, WAIST_Y, Figure, draw_head, draw_skin
from ipad_data.render.nuisance import degrade, difficulty_level, draw_clutter, draw_occluder, draw_placement
from ipad_data.render.palette import Palette, random_color, texture


@dataclass(frozen=True)
class RenderedImage:
    """An image, its labels, and where each labelled attribute's evidence lies.

    ``boxes`` maps an attribute to boxes ``x0, y0, x1, y1`` in [0, 1]. They do not depend on the attribute's value:
    both arms for the sleeve's length, whatever it is.
    """

    image: Image.Image
    labels: dict[str, str]
    boxes: dict[str, list[list[float]]]


def render_image(index: int, seed: int = 0, size: int = 128, difficulty: str | float = "standard") -> RenderedImage:
    """Draw the garment of an index.

    Args:
        index: Which image, from 0.
        seed: Seed of the whole dataset.
        size: Side in pixels.
        difficulty: ``easy`` (0), ``standard`` (0.5), ``hard`` (1) or a number in [0, 1]: scales every nuisance
            (pose, placement, textures, clutter, occlusion, blur, contrast, noise). Labels do not depend on it.

    Example:
        >>> render_image(0).labels["sleeve_length"] in ("sleeveless", "short", "elbow", "three_quarter", "long")
        True
    """
    level = difficulty_level(difficulty)
    rng = np.random.default_rng([seed, index])
    garment = Garment.draw(rng)
    placement = draw_placement(rng, level)
    figure = Figure.draw(rng, level)
    background = random_color(rng)
    palette = Palette.draw(rng, background)
    canvas = Canvas(size, placement, background)
    draw_clutter(canvas, rng, level)
    top = texture(rng, palette.top, canvas.side, level)
    sleeve = top if palette.sleeve == palette.top else texture(rng, palette.sleeve, canvas.side, level)
    bottom = texture(rng, palette.bottom, canvas.side, level)
    draw_skin(canvas, figure, palette)
    draw_bottom(canvas, figure, garment, palette, bottom)
    draw_head(canvas, palette, rng)
    draw_top(canvas, figure, garment, palette, top, sleeve)
    draw_occluder(canvas, rng, level)
    image = degrade(canvas.finish(), rng, level)
    labels = garment.labels()
    boxes = {attribute: found for attribute, found in _regions(figure, placement).items() if attribute in labels}
    return RenderedImage(image, labels, boxes)


def _regions(figure: Figure, placement: Placement) -> dict[str, list[list[float]]]:
    b = figure.breadth
    arms = [
        [(x + dx, y + dy) for x, y in arm for dx in (-0.035, 0.035) for dy in (-0.035, 0.035)] for arm in figure.arms
    ]
    legs = _corners(0.2 * b, WAIST_Y + 0.06, FOOT_Y + 0.02)
    return {
        "sleeve_length": [placement.box(points) for points in arms],
        "neckline_design": [placement.box(_corners(0.155, 0.17, 0.355))],
        "collar_design": [placement.box(_corners(0.15, 0.14, 0.265))],
        "front_design": [placement.box(_corners(0.12 * b, 0.24, HIP_Y + 0.01))],
        "skirt_length": [placement.box(legs)],
        "pant_length": [placement.box(legs)],
    }


def _corners(half_width: float, top: float, bottom: float) -> list[Point]:
    return [(x, y) for x in (-half_width, half_width) for y in (top, bottom)]
