"""The figures: bars over attributes for what is left out, curves for what has a size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipad_train.ablation.results import IN_BOX
from ipad_train.report.extras import require

_COLORS = ("#1f83cf", "#e69f00", "#009e73", "#cc79a7")


def draw_bars(figure: Mapping[str, Any], path: Path) -> None:
    """A group of bars for every attribute and for all queries, a bar a variant, error bars over seeds; an SVG file."""
    points = figure["points"]
    measures = [key for key in points[0]["mean"] if key != IN_BOX]
    axes, save = _axes(1.6 + 0.9 * len(measures))
    width = 0.8 / len(points)
    for number, point in enumerate(points):
        places = [place + (number - (len(points) - 1) / 2) * width for place in range(len(measures))]
        errors = [point["deviation"][measure] for measure in measures]
        heights = [point["mean"][measure] for measure in measures]
        axes.bar(
            places,
            heights,
            width,
            label=point["name"],
            color=_COLORS[number % len(_COLORS)],
            yerr=errors if any(errors) else None,
            capsize=2,
        )
    axes.set_xticks(range(len(measures)), [measure.replace("_", "\n") for measure in measures], fontsize=8)
    save(figure["title"], path)


def draw_curve(figure: Mapping[str, Any], path: Path) -> None:
    """MAP over all queries against a size, error bars over seeds; an SVG file."""
    axes, save = _axes(5.5)
    xs = [float(point["name"]) for point in figure["points"]]
    means = [point["mean"]["overall"] for point in figure["points"]]
    errors = [point["deviation"]["overall"] for point in figure["points"]]
    axes.errorbar(
        xs, means, yerr=errors if any(errors) else None, marker="o", capsize=3, color=_COLORS[0], label="overall"
    )
    axes.set_xlabel(figure["axis"])
    save(figure["title"], path)


def _axes(width: float) -> tuple[Any, Any]:
    """Axes to draw on, and what writes them to a file under a title."""
    require("matplotlib")
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, 3.2), layout="constrained")
    axes = canvas.subplots()
    axes.set_ylabel("MAP, %")
    axes.grid(axis="y", alpha=0.3)

    def save(title: str, path: Path) -> None:
        axes.set_title(title)
        axes.legend(fontsize=8)
        canvas.savefig(path, format="svg", metadata={"Date": None})

    return axes, save
