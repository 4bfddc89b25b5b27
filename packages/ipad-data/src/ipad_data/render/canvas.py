"""Drawing in figure coordinates: x is 0 in the figure's middle, y runs from 0 (head) to 1 (feet), in image sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Placement:
    """How a figure lies in the image: turned about its middle, scaled, shifted (in image sizes)."""

    angle: float = 0.0
    scale: float = 1.0
    shift: Point = (0.0, 0.0)

    def __call__(self, point: Point) -> Point:
        """Figure coordinates -> image coordinates in [0, 1] (outside of it where the figure leaves the image)."""
        x, y = point[0] * self.scale, (point[1] - 0.5) * self.scale
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return 0.5 + self.shift[0] + x * cos - y * sin, 0.5 + self.shift[1] + x * sin + y * cos

    def box(self, points: Sequence[Point]) -> list[float]:
        """Smallest upright box around points, cut to the image: x0, y0, x1, y1."""
        xs, ys = zip(*map(self, points), strict=True)
        return [min(max(value, 0.0), 1.0) for value in (min(xs), min(ys), max(xs), max(ys))]


class Canvas:
    """Image drawn at twice its size, in figure coordinates.

    Args:
        size: Side of the finished image, in pixels.
        placement: Figure -> image coordinates.
        background: Colour it starts with.
    """

    def __init__(self, size: int, placement: Placement, background: Color) -> None:
        self.side = size * SUPERSAMPLING
        self.placement = placement
        self.image = Image.new("RGB", (self.side, self.side), background)
        self.pen = ImageDraw.Draw(self.image)

    def finish(self) -> Image.Image:
        """The image at its own size, smoothed."""
        return self.image.reduce(SUPERSAMPLING)

    def pixels(self, points: Sequence[Point]) -> list[Point]:
        """Figure coordinates -> pixels of the large image."""
        return [(x * self.side, y * self.side) for x, y in map(self.placement, points)]

    def length(self, value: float) -> float:
        """A length in the figure -> pixels."""
        return value * self.placement.scale * self.side

    def polygon(self, points: Sequence[Point], fill: Color | Image.Image) -> None:
        """Fill a polygon with a colour, or with the part of a texture (as large as the canvas) that lies under it."""
        pixels = self.pixels(points)
        if isinstance(fill, tuple):
            self.pen.polygon(pixels, fill=fill)
            return
        xs, ys = zip(*pixels, strict=True)
        box = (
            max(0, int(min(xs))),
            max(0, int(min(ys))),
            min(self.side, int(max(xs)) + 2),
            min(self.side, int(max(ys)) + 2),
        )
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in pixels], fill=255)
        self.image.paste(fill.crop(box), box[:2], mask)

    def line(self, points: Sequence[Point], color: Color, width: float) -> None:
        """Draw a line of a width given in figure lengths, at least one pixel of the large image."""
        self.pen.line(self.pixels(points), fill=color, width=max(1, round(self.length(width))), joint="curve")

    def disc(self, center: Point, radius: float, fill: Color, outline: Color | None = None) -> None:
        """Draw a disc, outlined on request."""
        ((x, y),) = self.pixels([center])
        r = self.length(radius)
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline)

    def limb(self, start: Point, end: Point, half_widths: tuple[float, float], fill: Color | Image.Image) -> None:
        """Fill a limb: a tapering bar between two points with the half width of each end."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        norm = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / norm, dx / norm
        a, b = half_widths
        corners = [
            (start[0] + nx * a, start[1] + ny * a),
            (end[0] + nx * b, end[1] + ny * b),
            (end[0] - nx * b, end[1] - ny * b),
            (start[0] - nx * a, start[1] - ny * a),
        ]
        self.polygon(corners, fill)


def arc(center: Point, radii: Point, start: float, end: float, steps: int = 12) -> list[Point]:
    """Points along an ellipse from one angle to another, in degrees; 0 is right, 90 is down."""
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return [(center[0] + radii[0] * math.cos(t), center[1] + radii[1] * math.sin(t)) for t in angles]


def mirror(points: Sequence[Point]) -> list[Point]:
    """The same points on the figure's other side."""
    return [(-x, y) for x, y in points]
