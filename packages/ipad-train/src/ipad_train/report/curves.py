"""Loss and MAP curves of runs as SVG that is part of the page and takes its colour."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipad_train.chance import stuck_attributes
from ipad_train.config import STAGE_NAMES
from ipad_train.report.extras import require
from ipad_train.step_numbers import ACTIVE, BY_ATTRIBUTE, COSINE

_TEXT = "#010203"  # stands for the page's text colour while matplotlib draws
_COLORS = ("#1f83cf", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#888888", "#b8860b")
_DASHES = ("-", "--", ":")
_NOT_A_LOSS = (
    "step",
    "stage",
    "event",
    "accuracy",
    "skipped_images",
    "skipped_steps",
    "gradient_norm",
    "loss_scale",
)
_MAP, _STUCK = "validation/MAP", "validation/stuck"
_KINDS = ("validation/", "random/", "learning_rate", "queues_filled/", *BY_ATTRIBUTE)

Series = dict[str, tuple[list[float], list[float]]]  # name -> steps, values


@dataclass(frozen=True)
class Curve:
    """A plot: its ``title``, the ``svg``, and a ``note`` below it."""

    title: str
    svg: str
    note: str = ""


def run_curves(metrics: list[dict[str, Any]]) -> list[Curve]:
    """Losses of every stage of a run, what it skipped, its accuracy in stage 0, and the validation MAP over all stages."""
    curves = []
    for stage in STAGE_NAMES:
        rows = [row for row in metrics if row["stage"] == stage]
        events = [(row["step"], row["event"]) for row in rows if "event" in row]
        losses = _series(rows, lambda key: key not in _NOT_A_LOSS and not key.startswith(_KINDS))
        if losses:
            note = "; ".join(f"step {step} (dotted line): {text}" for step, text in events)
            svg = plot(losses, f"loss of {stage}", "loss", [step for step, _ in events])
            curves.append(Curve(f"Losses of {stage}", svg, note))
        if accuracy := _series(rows, lambda key: key == "accuracy"):
            shown = {"training batches": (accuracy["accuracy"][0], [100 * y for y in accuracy["accuracy"][1]])}
            curves.append(Curve(f"Accuracy of {stage}", plot(shown, f"accuracy of {stage}", "accuracy, %")))
        if active := _series(rows, lambda key: key.startswith(ACTIVE)):
            shown = {
                _name(key): (steps, [None if y is None else 100 * y for y in ys])
                for key, (steps, ys) in active.items()
            }
            note = "Triplets that still have a loss. Near 100 % without falling: the attribute has not taken off."
            svg = plot(shown, f"active triplets of {stage}", "active triplets, %")
            curves.append(Curve(f"Active triplets of {stage}", svg, note))
        if alike := _series(rows, lambda key: key.startswith(COSINE)):
            shown = {_name(key): line for key, line in alike.items()}
            note = "Of two images of a batch. Near 1: the attribute's embeddings have collapsed into one."
            svg = plot(shown, f"mean cosine of embeddings in {stage}", "mean cosine")
            curves.append(Curve(f"How alike embeddings are in {stage}", svg, note))
        skipped = _series(rows, lambda key: key == "skipped_images")
        if any(any(values) for _, values in skipped.values()):
            curves.append(
                Curve(f"Unreadable images of {stage}", plot(skipped, f"skipped in {stage}", "images a step"))
            )
    validation = _series(metrics, lambda key: key.startswith("validation/"))
    stuck = validation.pop(_STUCK, None)
    if validation:
        shown = {"overall": validation.pop(_MAP), **validation} if _MAP in validation else validation
        shown = {_name(name): line for name, line in shown.items()}
        starts = _stage_starts(metrics)
        note = "Dotted lines: a stage begins, with its own embedding, so the MAP may jump." if starts else ""
        curves.append(Curve("Validation MAP", plot(shown, "validation MAP", "MAP, %", starts), note))
    if stuck and any(stuck[1]):
        svg = plot({"stuck attributes": stuck}, "stuck attributes", "attributes", _stage_starts(metrics))
        curves.append(Curve("Attributes at chance", svg, _when_stuck(metrics)))
    return curves


def method_curves(metrics: dict[str, list[dict[str, Any]]]) -> list[Curve]:
    """Stage-1 loss and validation MAP of several runs over the steps of that stage."""
    losses, maps = {}, {}
    for name, rows in metrics.items():
        mine = [row for row in rows if row["stage"] == "stage1"]
        before = max((row["step"] for row in rows if row["stage"] == "stage0"), default=0)
        for series, key in ((losses, "loss"), (maps, _MAP)):
            for steps, values in _series(mine, lambda k, key=key: k == key).values():
                series[name] = ([step - before for step in steps], values)
    curves = []
    if losses:
        curves.append(Curve("Stage-1 loss of all methods", plot(losses, "stage-1 loss of all methods", "loss")))
    if any(len(steps) > 1 for steps, _ in maps.values()):  # single points are in the table
        curves.append(
            Curve("Validation MAP of all methods", plot(maps, "validation MAP of all methods in stage 1", "MAP, %"))
        )
    return curves


def plot(series: Series, description: str, label: str, marks: list[int] | tuple[int, ...] = ()) -> str:
    """One small plot as an ``<svg>`` element without addresses, equal for equal input.

    Args:
        series: Lines; values that are None or not finite leave gaps.
        description: What is drawn, for readers who do not see it; the last values are added.
        label: Of the vertical axis.
        marks: Steps of dotted vertical lines.
    """
    matplotlib, figures = require("matplotlib"), require("matplotlib.figure")
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": description,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _TEXT,
        "axes.labelcolor": _TEXT,
        "axes.edgecolor": _TEXT,
        "xtick.color": _TEXT,
        "ytick.color": _TEXT,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(settings):
        rows = math.ceil(len(series) / 3)
        figure = figures.Figure(figsize=(4.6, 2.6 + 0.18 * rows), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, (steps, values)) in enumerate(series.items()):
            drawn = [math.nan if value is None else value for value in values]
            axes.plot(
                steps,
                drawn,
                _DASHES[i // len(_COLORS) % len(_DASHES)],
                color=_COLORS[i % len(_COLORS)],
                label=name,
                linewidth=2.0 if i == 0 else 1.2,
                marker="o" if len(steps) < 25 else None,
                markersize=3,
            )
        for step in marks:
            axes.axvline(step, color="#888888", linestyle=":", linewidth=1)
        axes.grid(color="#888888", alpha=0.25, linewidth=0.6)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        figure.legend(loc="outside lower center", ncols=min(3, len(series)), frameon=False, fontsize=9)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    last = ", ".join(f"{name} {_last(values)}" for name, (_, values) in series.items())
    return _inline(buffer.getvalue(), f"{description}; last: {last}")


def _inline(svg: str, description: str) -> str:
    """The element alone, with a description, in the colour of the text around it."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| width="[^"]*pt"| height="[^"]*pt"', "", svg)
    svg = svg.replace(_TEXT, "currentColor").replace("xlink:href", "href")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)


def _series(rows: list[dict[str, Any]], wanted: Callable[[str], bool]) -> Series:
    names = dict.fromkeys(key for row in rows for key in row if wanted(key))
    lines = {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
    order = sorted(lines, key=lambda name: name != "loss")  # the sum first
    return {name: tuple(map(list, zip(*lines[name], strict=True))) for name in order}


def _stage_starts(metrics: list[dict[str, Any]]) -> list[int]:
    """Last step before each stage but the first."""
    last = {
        stage: max((row["step"] for row in metrics if row["stage"] == stage), default=None) for stage in STAGE_NAMES
    }
    ends = [step for step in last.values() if step is not None]
    return ends[:-1]


def _when_stuck(metrics: list[dict[str, Any]]) -> str:
    """Which attributes each evaluation found at chance; of equal ones in a row the first."""
    said: list[str] = []
    before = None
    for row in metrics:
        if _STUCK in row:
            random = {key.removeprefix("random/"): value for key, value in row.items() if key.startswith("random/")}
            stuck = stuck_attributes({name: row[f"validation/{name}"] for name in random}, random)
            if stuck != before:
                said.append(f"step {row['step']} ({row['stage']}): {', '.join(map(_name, stuck)) or 'none'}")
            before = stuck
    return "; ".join(said)


def _name(key: str) -> str:
    return key.rpartition("/")[2].replace("_", " ")


def _last(values: list[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return f"{known[-1]:.3g}" if known else "unknown"
