"""Results as plain-text tables, which are Markdown as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def map_table(results: dict[str, Any], title: str = "MAP, %") -> str:
    """Results as a plain-text (and Markdown) table, with :func:`table_notes` below."""
    attributes = list(results["rows"][0]["attributes"])
    header = [title, *attributes, "overall"]
    rows = [
        [row["name"], *(_number(row["attributes"].get(name)) for name in attributes), _number(row["overall"])]
        for row in results["rows"]
    ]
    if any("seeds" in row for row in results["rows"]):
        header.append("seeds")
        for cells, row in zip(rows, results["rows"], strict=True):
            cells.append(" / ".join(_number(value, 1) for value in row["seeds"]))
    return "\n".join([as_markdown(header, rows), *table_notes(results)])


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned, so that a terminal shows it well."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def table_notes(results: dict[str, Any]) -> list[str]:
    """Lines for below a table: where the attention peaks, and the differences that matter."""
    text: list[str] = []
    if located := results.get("localization"):
        text += ["", f"attention peak in the true box: {located['overall']:.1f} % of entries that have one"]
    if located and (chance := results.get("random_localization")):
        shares = ", ".join(f"{name} {located[name]:.0f} / {chance[name]:.0f}" for name in located)
        text += ["", f"the same / a random point of the person, %: {shares}"]
    if found := results.get("differences"):
        text += ["", "differences in MAP, with 95 % intervals (paired bootstrap over queries):", ""]
        text += [
            f"- {d['first']} - {d['second']}: {d['mean']:+.2f} ({d['low']:+.2f} to {d['high']:+.2f})" for d in found
        ]
    return text


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
