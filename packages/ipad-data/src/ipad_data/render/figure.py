"""The figure that wears the garments: its measures, its pose, its skin and head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ipad_data.render.canvas import Canvas, Point, arc, mirror
from ipad_data.render.palette import Palette

# Heights of the body's parts. The upper body is large for a person's: neckline and collar are what must be seen.
NECK_Y, SHOULDER_Y, ARMPIT_Y, WAIST_Y, HIP_Y, FOOT_Y = 0.175, 0.21, 0.31, 0.47, 0.58, 0.95
NECK_HALF = 0.048
UPPER_ARM, FOREARM = 0.175, 0.165
ARM_HALVES, LEG_HALVES = (0.040, 0.026), (0.056, 0.034)


@dataclass(frozen=True)
class Figure:
    """Measures and pose: a factor on widths, and the joints of arms and legs (left, right)."""

    breadth: float
    arms: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    feet: tuple[Point, Point]

    @classmethod
    def draw(cls, rng: np.random.Generator, looseness: float) -> Figure:
        """Random figure; looseness 0 stands still, 1 moves arms and legs widely."""
        breadth = 1.0 + float(rng.uniform(-0.1, 0.1)) * looseness
        arms = []
        for side in (-1, 1):
            upper = math.radians(30 + looseness * float(rng.uniform(-22, 35)))
            fore = upper + math.radians(looseness * float(rng.uniform(-70, 40)))
            shoulder = (side * 0.155 * breadth, SHOULDER_Y + 0.02)
            elbow = (shoulder[0] + side * UPPER_ARM * math.sin(upper), shoulder[1] + UPPER_ARM * math.cos(upper))
            wrist = (elbow[0] + side * FOREARM * math.sin(fore), elbow[1] + FOREARM * math.cos(fore))
            arms.append((shoulder, elbow, wrist))
        stance = 0.092 + looseness * float(rng.uniform(-0.02, 0.04))
        return cls(breadth, tuple(arms), ((-stance * breadth, FOOT_Y), (stance * breadth, FOOT_Y)))

    def hip(self, side: int) -> Point:
        """Where the left (-1) or right (1) leg begins."""
        return (side * 0.082 * self.breadth, HIP_Y)

    def along_arm(self, arm: tuple[Point, Point, Point], share: float) -> list[Point]:
        """Joints of the arm from the shoulder up to a share of its length."""
        shoulder, elbow, wrist = arm
        reach = share * (UPPER_ARM + FOREARM)
        if reach <= UPPER_ARM:
            return [shoulder, _between(shoulder, elbow, reach / UPPER_ARM)]
        return [shoulder, elbow, _between(elbow, wrist, (reach - UPPER_ARM) / FOREARM)]

    def along_leg(self, side: int, share: float) -> Point:
        """Point of a leg at a share of its length."""
        return _between(self.hip(side), self.feet[(side + 1) // 2], share)


def draw_skin(canvas: Canvas, figure: Figure, palette: Palette) -> None:
    """Legs, shoes, arms, neck and shoulders: all that clothes may cover."""
    for side, foot in zip((-1, 1), figure.feet, strict=True):
        canvas.limb(figure.hip(side), foot, LEG_HALVES, palette.skin)
        canvas.polygon(arc((foot[0] + side * 0.018, foot[1] + 0.008), (0.05, 0.02), 0, 360), palette.shoes)
    for shoulder, elbow, wrist in figure.arms:
        upper, lower = ARM_HALVES
        middle = (upper + lower) / 2
        canvas.disc(shoulder, upper, palette.skin)
        canvas.limb(shoulder, elbow, (upper, middle), palette.skin)
        canvas.disc(elbow, middle, palette.skin)
        canvas.limb(elbow, wrist, (middle, lower), palette.skin)
        canvas.disc(wrist, lower * 1.25, palette.skin)
    half = 0.155 * figure.breadth
    bust = [(NECK_HALF, 0.12), (NECK_HALF, NECK_Y), (half, SHOULDER_Y - 0.01), (half, ARMPIT_Y)]
    canvas.polygon([*bust, *reversed(mirror(bust))], palette.skin)


def draw_head(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    """Face, and hair that never falls onto the neckline."""
    length = float(rng.uniform(0.02, 0.07))
    sides = [(0.068, 0.09 + length), (-0.068, 0.09 + length)]
    canvas.polygon([*arc((0, 0.085), (0.068, 0.078), 180, 360), *sides], palette.hair)
    canvas.polygon(arc((0, 0.095), (0.052, 0.066), 0, 360, 20), palette.skin)
    canvas.polygon(arc((0, 0.085), (0.062, 0.068), 190, 350), palette.hair)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
