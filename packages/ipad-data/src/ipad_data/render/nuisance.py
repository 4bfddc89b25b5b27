"""What varies without meaning: placement, clutter, occlusion, blur, contrast and noise, scaled by the difficulty."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from ipad_data.render.canvas import Canvas, Placement
from ipad_data.render.palette import random_color

DIFFICULTIES = {"easy": 0.0, "standard": 0.5, "hard": 1.0}


def difficulty_level(difficulty: str | float) -> float:
    """Level within [0, 1] of a difficulty given by name or as a number.

    Raises:
        ValueError: an unknown name, or a number outside [0, 1].
    """
    level = DIFFICULTIES.get(difficulty, -1.0) if isinstance(difficulty, str) else float(difficulty)
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)} or within [0, 1], got {difficulty!r}")
    return level


def draw_placement(rng: np.random.Generator, level: float) -> Placement:
    """Turned by 8 degrees * level (standard deviation), scaled by 0.94 +- 0.16 * level, shifted by +- 0.1 * level."""
    return Placement(
        angle=math.radians(8.0 * level * float(rng.standard_normal())),
        scale=0.94 + level * float(rng.uniform(-0.2, 0.14)),
        shift=(level * float(rng.uniform(-0.1, 0.1)), level * float(rng.uniform(-0.08, 0.08))),
    )


def draw_clutter(canvas: Canvas, rng: np.random.Generator, level: float) -> None:
    """A floor, and up to 16 * level shapes of random colours behind the figure."""
    side = canvas.side
    canvas.pen.rectangle((0, side * rng.uniform(0.6, 0.9), side, side), fill=random_color(rng))
    for _ in range(rng.integers(round(16 * level) + 1)):
        _draw_shape(canvas, rng, 0.35)


def draw_occluder(canvas: Canvas, rng: np.random.Generator, level: float) -> None:
    """With probability 0.7 * level, one small thing in front of the figure, anywhere in the image."""
    if rng.random() < 0.7 * level:
        _draw_shape(canvas, rng, 0.14)


def degrade(image: Image.Image, rng: np.random.Generator, level: float) -> Image.Image:
    """Blur in a share 0.5 * level of the images, contrast and brightness, Gaussian noise."""
    if rng.random() < 0.5 * level:
        image = image.filter(ImageFilter.GaussianBlur(0.4 + 0.8 * level * float(rng.random()) * image.width / 128))
    pixels = np.asarray(image, dtype=np.float32)
    contrast = 1.0 + level * float(rng.uniform(-0.5, 0.2))
    brightness = level * float(rng.uniform(-50, 50))
    noise_sd = level * float(rng.uniform(0, 20))
    pixels = (pixels - 127.5) * contrast + (127.5 + brightness)
    pixels += noise_sd * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _draw_shape(canvas: Canvas, rng: np.random.Generator, largest: float) -> None:
    x, y = rng.random(2) * canvas.side
    width, height = rng.uniform(0.05, largest, size=2) * canvas.side
    color = random_color(rng)
    kind = rng.integers(4)
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if kind == 0:
        canvas.pen.rectangle(box, fill=color)
    elif kind == 1:
        canvas.pen.ellipse(box, fill=color)
    elif kind == 2:
        canvas.pen.polygon([(x, y), (x + width, y + height / 3), (x + width / 3, y + height)], fill=color)
    else:
        canvas.pen.line(box, fill=color, width=max(1, round(canvas.side * 0.02)))
