"""Drawing the clothes: each attribute's value leaves its evidence in one region of the figure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from PIL import Image

from ipad_data.render.attributes import Garment
from ipad_data.render.canvas import Canvas, Color, Point, arc, mirror
from ipad_data.render.figure import (
    ARM_HALVES,
    ARMPIT_Y,
    HIP_Y,
    LEG_HALVES,
    NECK_HALF,
    NECK_Y,
    SHOULDER_Y,
    WAIST_Y,
    Figure,
)
from ipad_data.render.palette import Palette, contrasting

Fill = Color | Image.Image
OFF_SHOULDER_Y = 0.272
# Lower edge of each neckline's opening, from left to right; it is closed along the shoulders.
NECKLINES: dict[str, list[Point]] = {
    "round": arc((0, NECK_Y + 0.012), (0.082, 0.105), 180, 0, 16),
    "v": [(-0.080, NECK_Y + 0.010), (0.0, 0.352), (0.080, NECK_Y + 0.010)],
    "square": [(-0.086, NECK_Y + 0.013), (-0.082, 0.277), (0.082, 0.277), (0.086, NECK_Y + 0.013)],
    "boat": arc((0, NECK_Y + 0.024), (0.142, 0.042), 180, 0, 16),
}
NECKLINE_DEPTH = {"round": 0.292, "v": 0.352, "square": 0.277, "boat": 0.241, "off_shoulder": 0.285}


def draw_top(canvas: Canvas, figure: Figure, garment: Garment, palette: Palette, top: Fill, sleeve: Fill) -> None:
    """Torso, sleeves, neckline, front and collar."""
    off_shoulder = garment.neckline == "off_shoulder"
    canvas.polygon(_torso(figure, off_shoulder), top)
    for arm in figure.arms:
        _draw_sleeve(canvas, figure, arm, garment.sleeve_share, palette, sleeve, off_shoulder)
    _draw_neckline(canvas, figure, garment.neckline, palette)
    FRONTS[garment.front](canvas, NECKLINE_DEPTH[garment.neckline] + 0.012, palette)
    if garment.collar is not None:
        COLLARS[garment.collar](canvas, palette)


def draw_bottom(canvas: Canvas, figure: Figure, garment: Garment, palette: Palette, fill: Fill) -> None:
    """Skirt or pants, down to their share of the legs."""
    waist = 0.120 * figure.breadth
    hip = 0.152 * figure.breadth
    hem = contrasting(palette.bottom)
    if garment.skirt is not None:
        left, right = figure.along_leg(-1, garment.leg_share), figure.along_leg(1, garment.leg_share)
        flare = 0.055 + 0.05 * garment.leg_share
        bottom = [(left[0] - flare, left[1]), (right[0] + flare, right[1])]
        canvas.polygon([(-waist, WAIST_Y), (-hip, HIP_Y), *bottom, (hip, HIP_Y), (waist, WAIST_Y)], fill)
        canvas.line(bottom, hem, 0.014)
        return
    canvas.polygon(
        [
            (-waist, WAIST_Y),
            (-hip, HIP_Y),
            (-0.012, HIP_Y + 0.045),
            (0.012, HIP_Y + 0.045),
            (hip, HIP_Y),
            (waist, WAIST_Y),
        ],
        fill,
    )
    upper, lower = (half + 0.012 for half in LEG_HALVES)
    for side in (-1, 1):
        end = figure.along_leg(side, garment.leg_share)
        half = upper + (lower - upper) * garment.leg_share
        canvas.limb(figure.hip(side), end, (upper, half), fill)
        canvas.line([(end[0] - half, end[1]), (end[0] + half, end[1])], hem, 0.014)


def _torso(figure: Figure, off_shoulder: bool) -> list[Point]:
    b = figure.breadth
    low = [(0.135 * b, ARMPIT_Y), (0.118 * b, WAIST_Y), (0.146 * b, HIP_Y - 0.012)]
    high = [(0.148 * b, OFF_SHOULDER_Y)] if off_shoulder else [(NECK_HALF, NECK_Y), (0.150 * b, SHOULDER_Y - 0.012)]
    return [*high, *low, *reversed(mirror(low)), *reversed(mirror(high))]


def _draw_sleeve(
    canvas: Canvas,
    figure: Figure,
    arm: tuple[Point, Point, Point],
    share: float,
    palette: Palette,
    fill: Fill,
    off_shoulder: bool,
) -> None:
    if share <= 0:
        return
    joints = figure.along_arm(arm, share)
    upper, lower = (half + 0.014 for half in ARM_HALVES)
    if off_shoulder:
        start = figure.along_arm(arm, 0.17)[-1]
        joints = [start, *joints[1:]]
    elif isinstance(fill, tuple):
        canvas.disc(joints[0], upper, fill)
    else:
        canvas.polygon(arc(joints[0], (upper, upper), 0, 360, 16), fill)
    halves = [upper, (upper + lower) / 2, lower]
    for (start, end), pair in zip(pairwise(joints), pairwise(halves), strict=False):
        canvas.limb(start, end, pair, fill)
    if len(joints) == 3:
        canvas.polygon(arc(joints[1], (halves[1], halves[1]), 0, 360, 12), fill)
    (x0, y0), (x1, y1) = joints[-2:]
    norm = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
    nx, ny = -(y1 - y0) / norm * halves[len(joints) - 1], (x1 - x0) / norm * halves[len(joints) - 1]
    canvas.line([(x1 - nx, y1 - ny), (x1 + nx, y1 + ny)], contrasting(palette.sleeve), 0.014)


def _draw_neckline(canvas: Canvas, figure: Figure, neckline: str, palette: Palette) -> None:
    if neckline == "off_shoulder":
        half = 0.148 * figure.breadth
        edge = [(-half, OFF_SHOULDER_Y), (0, OFF_SHOULDER_Y + 0.012), (half, OFF_SHOULDER_Y)]
        canvas.line(edge, palette.trim, 0.020)
        return
    edge = NECKLINES[neckline]
    canvas.polygon([*edge, (NECK_HALF, NECK_Y - 0.02), (-NECK_HALF, NECK_Y - 0.02)], palette.skin)
    canvas.line(edge, palette.trim, 0.016)


def _front_plain(canvas: Canvas, top: float, palette: Palette) -> None:
    """Nothing."""


def _buttons(canvas: Canvas, x: float, top: float, palette: Palette) -> None:
    for i in range(4):
        y = top + 0.02 + (HIP_Y - 0.045 - top - 0.02) * i / 3
        canvas.disc((x, y), 0.0165, palette.fastening, contrasting(palette.fastening))


def _front_single_row(canvas: Canvas, top: float, palette: Palette) -> None:
    _buttons(canvas, 0.0, top, palette)


def _front_double_row(canvas: Canvas, top: float, palette: Palette) -> None:
    _buttons(canvas, -0.050, top, palette)
    _buttons(canvas, 0.050, top, palette)


def _front_zip(canvas: Canvas, top: float, palette: Palette) -> None:
    canvas.line([(0, top), (0, HIP_Y - 0.012)], palette.fastening, 0.020)
    canvas.line([(0, top), (0, HIP_Y - 0.012)], contrasting(palette.fastening), 0.006)
    canvas.polygon(
        [(-0.015, top + 0.01), (0.015, top + 0.01), (0.012, top + 0.055), (-0.012, top + 0.055)],
        contrasting(palette.fastening),
    )


def _front_wrap(canvas: Canvas, top: float, palette: Palette) -> None:
    canvas.line([(0.055, top - 0.01), (-0.105, WAIST_Y + 0.015)], palette.fastening, 0.022)
    canvas.line([(-0.120, WAIST_Y + 0.02), (0.120, WAIST_Y + 0.02)], palette.fastening, 0.026)


def _collar_none(canvas: Canvas, palette: Palette) -> None:
    """Nothing."""


def _collar_shirt(canvas: Canvas, palette: Palette) -> None:
    blade = [(0.036, 0.158), (0.062, 0.166), (0.142, 0.198), (0.128, 0.262), (0.076, 0.205)]
    _paired(canvas, blade, palette.collar)


def _collar_peter_pan(canvas: Canvas, palette: Palette) -> None:
    _paired(canvas, arc((0.098, 0.207), (0.052, 0.036), 0, 360, 18), palette.collar)


def _collar_stand(canvas: Canvas, palette: Palette) -> None:
    band = [(0.058, 0.142), (0.062, 0.192)]
    canvas.polygon([*band, *reversed(mirror(band))], palette.collar)
    shade = contrasting(palette.collar)
    canvas.line([(-0.058, 0.142), (0.058, 0.142)], shade, 0.008)
    canvas.line([(-0.062, 0.192), (0.062, 0.192)], shade, 0.008)


def _collar_ruffle(canvas: Canvas, palette: Palette) -> None:
    for x, y in arc((0, 0.172), (0.088, 0.034), 200, -20, 8):
        canvas.disc((x, y), 0.022, palette.collar, contrasting(palette.collar))


def _paired(canvas: Canvas, shape: list[Point], color: Color) -> None:
    for points in (shape, mirror(shape)):
        canvas.polygon(points, color)
        canvas.line([*points, points[0]], contrasting(color), 0.007)


FRONTS: dict[str, Callable[[Canvas, float, Palette], None]] = {
    "plain": _front_plain,
    "single_row": _front_single_row,
    "double_row": _front_double_row,
    "zip": _front_zip,
    "wrap": _front_wrap,
}
COLLARS: dict[str, Callable[[Canvas, Palette], None]] = {
    "none": _collar_none,
    "shirt": _collar_shirt,
    "peter_pan": _collar_peter_pan,
    "stand": _collar_stand,
    "ruffle": _collar_ruffle,
}
