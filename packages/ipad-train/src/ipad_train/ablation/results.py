"""Means and standard deviations of an ablation, as a table and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipad_train.ablation.variants import Figure
from ipad_train.checkpoint import write_json
from ipad_train.result_tables import as_markdown

# Point -> attribute or "overall" -> MAP in percent; and IN_BOX, where there is attention and there are true boxes.
Measured = Mapping[str, Mapping[str, float]]
IN_BOX = "peak in the box"  # share of entries whose attention peaks in a true box, percent


def figure_results(figure: Figure, seeds: Sequence[Measured], paper: Mapping[str, float]) -> dict[str, Any]:
    """A figure's points over seeds.

    Args:
        figure: What it shows.
        seeds: Of each seed, what every point came to.
        paper: Overall MAP that the paper gives for a point, where it does.

    Returns:
        ``{"title", "axis", "points": [{"name", "mean": {...}, "deviation": {...}, "seeds": [...], "paper"}]}``; ``mean`` and
        ``deviation`` (of the sample, 0 for one seed) by attribute and ``overall``, ``seeds`` the overall MAP of each.
    """
    points = []
    for name in seeds[0]:
        values = {key: np.array([mine[name][key] for mine in seeds]) for key in seeds[0][name]}
        deviation = {key: float(value.std(ddof=1)) if len(value) > 1 else 0.0 for key, value in values.items()}
        point = {"name": name, "mean": {key: float(value.mean()) for key, value in values.items()}}
        points.append({**point, "deviation": deviation, "seeds": values["overall"].tolist(), "paper": paper.get(name)})
    return {"title": figure.title, "axis": figure.axis, "points": points}


def write_ablation(folder: Path, results: Mapping[str, Any]) -> str:
    """Write ``ablation.json``, ``.md`` and ``.csv``; returns the Markdown."""
    parts = []
    for number, figure in results["figures"].items():
        title = f"Figure {number}: {figure['title']}" if number.isdigit() else figure["title"]
        parts += [f"{title} ({results['split']} MAP, %)", "", _table(figure), ""]
    text = "\n".join(parts).rstrip()
    write_json(folder / "ablation.json", results)
    (folder / "ablation.md").write_text(f"{text}\n", encoding="utf-8")
    (folder / "ablation.csv").write_text(_csv(results), encoding="utf-8")
    return text


def _table(figure: Mapping[str, Any]) -> str:
    points = figure["points"]
    attributes = [key for key in points[0]["mean"] if key not in ("overall", IN_BOX)]
    several, papers = len(points[0]["seeds"]) > 1, any(point["paper"] is not None for point in points)
    located = any(IN_BOX in point["mean"] for point in points)
    header = [figure["axis"], *attributes, "overall", *(["seeds"] if several else [])]
    header += [*([IN_BOX] if located else []), *(["paper"] if papers else [])]
    rows = []
    for point in points:
        mean, deviation = point["mean"], point["deviation"]
        row = [point["name"], *(f"{mean[key]:.2f}" for key in attributes), f"{mean['overall']:.2f}"]
        if several:
            row[-1] += f" ± {deviation['overall']:.2f}"
            row.append(" / ".join(f"{value:.1f}" for value in point["seeds"]))
        if located:
            row.append(f"{mean[IN_BOX]:.1f}" if IN_BOX in mean else "")
        if papers:
            row.append("" if point["paper"] is None else f"{point['paper']:.2f}")
        rows.append(row)
    return as_markdown(header, rows)


def _csv(results: Mapping[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["figure", "point", "measure", "mean", "deviation", "paper"])
    for number, figure in results["figures"].items():
        for point in figure["points"]:
            for measure, mean in point["mean"].items():
                paper = point["paper"] if measure == "overall" else None
                writer.writerow([number, point["name"], measure, mean, point["deviation"][measure], paper])
    return file.getvalue()
