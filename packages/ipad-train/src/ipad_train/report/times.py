"""Where the time of training went, as the page shows it: a row for each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ipad_train.part_times import PARTS
from ipad_train.summary import StageTime, stage_times


def time_table(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """``parts`` (names of the columns) and ``rows`` of stages with ``name``, ``steps``, ``total``, ``speed`` and ``cells``.

    A cell has the ``share`` of the stage's time in percent, and the seconds as ``text``. Parts that take less than half a
    percent of every stage have no column. None where nothing was timed.
    """
    times = stage_times(timings)
    if not times:
        return None
    parts = [part for part in (*PARTS, "other") if any(_share(time, part) >= 0.005 for time in times)]
    rows = []
    for time in times:
        whole = sum(time.seconds.values()) or 1.0
        rows.append(
            {
                "name": time.name,
                "steps": time.steps,
                "total": _seconds(time.elapsed),
                "speed": f"{time.images_per_second:.3g}" if time.images_per_second else "-",
                "cells": [
                    {"share": 100 * time.seconds.get(part, 0.0) / whole, "text": _seconds(time.seconds.get(part, 0.0))}
                    for part in parts
                ],
            }
        )
    return {"parts": parts, "rows": rows}


def _share(time: StageTime, part: str) -> float:
    return time.seconds.get(part, 0.0) / (sum(time.seconds.values()) or 1.0)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
