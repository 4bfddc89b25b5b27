"""Small plots as SVG that is part of the page and takes its colour."""

from __future__ import annotations

import html
import io
import math
import re
import statistics
from collections.abc import Sequence

from ipad_train.report.extras import require

_TEXT = "#010203"  # stands for the page's text colour while matplotlib draws
_COLORS = ("#1f83cf", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#888888", "#b8860b")
_DASHES = ("-", "--", ":")
_FLAT = 10  # a line so many times below the highest one lies flat on the axis
_WHOLE = {"integer": True, "min_n_ticks": 1}  # ticks at whole numbers, if there is only one of them

Series = dict[str, tuple[list[float], list[float]]]  # name -> steps, values


def plot(
    series: Series,
    description: str,
    label: str,
    marks: Sequence[int] = (),
    steps_label: str = "step of the run",
    log: bool = False,
) -> str:
    """One small plot as an ``<svg>`` element without addresses, equal for equal input.

    Args:
        series: Lines; values that are None or not finite leave gaps.
        description: What is drawn, for readers who do not see it; the last values are added.
        label: Of the vertical axis.
        marks: Steps of dotted vertical lines.
        steps_label: Of the horizontal axis: whose steps are counted.
        log: Whether the vertical axis is logarithmic.
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
        axes.set_xlabel(steps_label)
        axes.xaxis.get_major_locator().set_params(**_WHOLE)
        axes.set_ylabel(f"{label} (logarithmic)" if log else label)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(bottom=min(_typical(values) for _, values in series.values()) / _FLAT)
        elif all(float(value).is_integer() for _, values in series.values() for value in _known(values)):
            axes.yaxis.get_major_locator().set_params(**_WHOLE)
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


def is_flattened(series: Series) -> bool:
    """Whether a line would lie flat below another one, so that only a logarithmic axis shows both."""
    sizes = [_typical(values) for _, values in series.values()]
    return bool(sizes) and min(sizes) > 0 and max(sizes) > _FLAT * min(sizes)


def _typical(values: list[float | None]) -> float:
    return statistics.median(_known(values) or [0.0])


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _last(values: list[float | None]) -> str:
    known = _known(values)
    return f"{known[-1]:.3g}" if known else "unknown"
