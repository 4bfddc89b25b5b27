"""Results as plain-text tables, which are Markdown as well."""

from __future__ import annotations

from typing import Any


def map_table(results: dict[str, Any], title: str = "MAP, %") -> str:
    """Results as a plain-text (and Markdown) table, with :func:`table_notes` below."""
    attributes = list(results["rows"][0]["attributes"])
    lines = [[title, *attributes, "overall"]] + [
        [row["name"], *(_number(row["attributes"].get(name)) for name in attributes), _number(row["overall"])]
        for row in results["rows"]
    ]
    if any("seeds" in row for row in results["rows"]):
        lines[0].append("seeds")
        for line, row in zip(lines[1:], results["rows"], strict=True):
            line.append(" / ".join(_number(value, 1) for value in row["seeds"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*text, *table_notes(results)])


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
