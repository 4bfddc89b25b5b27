"""Colours and textures of a figure, all drawn without looking at its labels."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ipad_data.render.canvas import Color

SKIN_TONES = ((255, 224, 189), (241, 194, 150), (224, 172, 125), (198, 134, 88), (141, 85, 54), (94, 60, 42))
HAIR_COLORS = ((20, 16, 14), (60, 38, 24), (110, 70, 40), (190, 150, 90), (150, 60, 30), (150, 145, 140))
TEXTURES = ("plain", "plain", "rows", "columns", "diagonals", "checks", "dots")


@dataclass(frozen=True)
class Palette:
    """Colours of one figure."""

    skin: Color
    hair: Color
    top: Color
    sleeve: Color
    bottom: Color
    collar: Color
    trim: Color
    fastening: Color
    shoes: Color

    @classmethod
    def draw(cls, rng: np.random.Generator, background: Color) -> Palette:
        """Random colours; cloth differs from skin and background, collar and fastening from the cloth under them."""
        skin = SKIN_TONES[rng.integers(len(SKIN_TONES))]
        top = random_color(rng, unlike=(skin, background))
        sleeve = random_color(rng, unlike=(skin, background)) if rng.random() < 0.3 else top
        return cls(
            skin=skin,
            hair=HAIR_COLORS[rng.integers(len(HAIR_COLORS))],
            top=top,
            sleeve=sleeve,
            bottom=random_color(rng, unlike=(skin, background)),
            collar=random_color(rng, unlike=(skin, top)),
            trim=contrasting(top),
            fastening=random_color(rng, unlike=(top,), distance=150.0),
            shoes=random_color(rng, unlike=(skin,)),
        )


def random_color(rng: np.random.Generator, unlike: tuple[Color, ...] = (), distance: float = 90.0) -> Color:
    """Colour of random hue, saturation and brightness, at least an RGB distance from given ones if eight tries do."""
    color = (0, 0, 0)
    for _ in range(8):
        hue, saturation, brightness = rng.random(3)
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.9 * saturation, 0.15 + 0.85 * brightness)
        color = (int(255 * red), int(255 * green), int(255 * blue))
        if all(_distance(color, other) >= distance for other in unlike):
            break
    return color


def contrasting(color: Color) -> Color:
    """A darker shade of a light colour, a lighter one of a dark colour."""
    luminance = 0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2]
    target, share = (0, 0.6) if luminance > 110 else (255, 0.65)
    return tuple(int(c + (target - c) * share) for c in color)


def texture(rng: np.random.Generator, color: Color, side: int, strength: float) -> Image.Image | Color:
    """Pattern as large as the canvas in a colour and a shade of it; the plain one is the colour itself.

    Args:
        rng: Source of the pattern, its period, offset and shade.
        color: Main colour.
        side: Side of the canvas in pixels.
        strength: 0 (no contrast between the colours) to 1 (strong contrast).
    """
    kind = TEXTURES[rng.integers(len(TEXTURES))]
    period = max(4, round(side * rng.uniform(0.03, 0.06)))
    share = strength * rng.uniform(0.25, 0.6)
    if kind == "plain":
        return color
    other = tuple(int(c + (o - c) * share) for c, o in zip(color, contrasting(color), strict=True))
    image = Image.new("RGB", (side, side), color)
    pen = ImageDraw.Draw(image)
    width = max(1, period // 3)
    if kind in ("rows", "checks"):
        for y in range(0, side, period):
            pen.rectangle((0, y, side, y + width - 1), fill=other)
    if kind in ("columns", "checks"):
        for x in range(0, side, period):
            pen.rectangle((x, 0, x + width - 1, side), fill=other)
    if kind == "diagonals":
        for x in range(-side, side, period + 2):
            pen.line((x, 0, x + side, side), fill=other, width=width)
    if kind == "dots":
        _paste_dots(image, color, other, period)
    return image


def _paste_dots(image: Image.Image, color: Color, other: Color, period: int) -> None:
    tile = Image.new("RGB", (period, period), color)
    ImageDraw.Draw(tile).ellipse((period // 4, period // 4, period - period // 4, period - period // 4), fill=other)
    row = Image.new("RGB", (image.width, period), color)
    for x in range(0, image.width, period):
        row.paste(tile, (x, 0))
    for y in range(0, image.height, period):
        image.paste(row, (0, y))


def _distance(a: Color, b: Color) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
