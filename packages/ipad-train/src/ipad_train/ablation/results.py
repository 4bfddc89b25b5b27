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
from ipad_train.comparison_files import as_markdown

Measured = Mapping[str, Mapping[str, float]]  # point -> attribute or "overall" -> MAP in percent


def figure_results(figure: Figure, seeds: Sequence[Measured], paper: Mapping[str, float]) -> dict[str, Any]:
    """A figure's points over seeds.

    Args:
        figure: What it shows.
        seeds: Of each seed, the MAP of every point.
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
        parts += [f"Figure {number}: {figure['title']} ({results['split']} MAP, %)", "", _table(figure), ""]
    text = "\n".join(parts).rstrip()
    write_json(folder / "ablation.json", results)
    (folder / "ablation.md").write_text(f"{text}\n", encoding="utf-8")
    (folder / "ablation.csv").write_text(_csv(results), encoding="utf-8")
    return text


def _table(figure: Mapping[str, Any]) -> str:
    points = figure["points"]
    attributes = [key for key in points[0]["mean"] if key != "overall"]
    several, papers = len(points[0]["seeds"]) > 1, any(point["paper"] is not None for point in points)
    header = [figure["axis"], *attributes, "overall", *(["seeds"] if several else []), *(["paper"] if papers else [])]
    rows = []
    for point in points:
        mean, deviation = point["mean"], point["deviation"]
        row = [point["name"], *(f"{mean[key]:.2f}" for key in attributes), f"{mean['overall']:.2f}"]
        if several:
            row[-1] += f" ± {deviation['overall']:.2f}"
            row.append(" / ".join(f"{value:.1f}" for value in point["seeds"]))
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
