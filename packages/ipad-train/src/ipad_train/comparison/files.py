"""A comparison's table as text and Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipad_train.checkpoint import write_json
from ipad_train.result_tables import as_markdown, table_notes

NAME = "comparison"


def write_comparison(folder: Path, results: Mapping[str, Any]) -> str:
    """Write ``comparison.json``, ``.md``, ``.csv`` and ``.tex`` into a folder; returns the Markdown for the terminal.

    In the first, second and fourth a row that the paper has is followed by the paper's; the CSV has one line a row, numbers
    unrounded, with the paper's overall MAP as a column.
    """
    markdown = "\n".join([as_markdown(*comparison_cells(results)), *_legend(results), *table_notes(dict(results))])
    write_json(folder / f"{NAME}.json", results)
    for suffix, text in (("md", markdown), ("csv", as_csv(results)), ("tex", as_latex(*comparison_cells(results)))):
        (folder / f"{NAME}.{suffix}").write_text(f"{text.rstrip()}\n", encoding="utf-8")
    return markdown


def comparison_cells(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table as texts; columns that no row fills are left out."""
    attributes = list(results["rows"][0]["attributes"])
    header = [f"{results['split']} MAP, %", *attributes, "overall"]
    rows = [list(row) for row in _cells(results, attributes)]
    header += ["params, M", "GMAC", "ms", "images/s", f"- {results.get('against')} (95 %)", "seeds"]
    filled = [i for i in range(len(header)) if i <= len(attributes) + 1 or any(row[i] != "" for row in rows)]
    return [header[i] for i in filled], [[row[i] for i in filled] for row in rows]


def as_latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A ``tabular`` with booktabs rules."""
    body = [" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(map(_escaped, header)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def as_csv(results: Mapping[str, Any]) -> str:
    """One line a row, numbers unrounded; what a row does not have is empty."""
    attributes = list(results["rows"][0]["attributes"])
    costs = ("parameters", "multiply_adds", "milliseconds", "images_per_second")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", *attributes, "overall", "macro", *costs, "difference", "low", "high", "against", "paper"])
    for row in results["rows"]:
        cost, difference = row.get("costs", {}), row.get("difference")
        writer.writerow(
            [
                row["name"],
                *(row["attributes"].get(name) for name in attributes),
                row["overall"],
                row["macro"],
                *(cost.get(name) for name in costs),
                *(difference[key] if difference else None for key in _INTERVAL),
                results.get("against") if difference else None,
                row["paper"]["overall"] if "paper" in row else None,
            ]
        )
    return file.getvalue()


_INTERVAL = ("mean", "low", "high")


def _cells(results: Mapping[str, Any], attributes: Sequence[str]) -> Iterator[list[str]]:
    for row in results["rows"]:
        cost = row.get("costs", {})
        yield [
            row["name"],
            *(_number(row["attributes"].get(name)) for name in attributes),
            _number(row["overall"]),
            _scaled(cost.get("parameters"), 1e6),
            _scaled(cost.get("multiply_adds"), 1e9),
            _number(cost.get("milliseconds"), 1, ""),
            _number(cost.get("images_per_second"), 0, ""),
            _interval(row.get("difference")),
            " / ".join(_number(value, 1) for value in row.get("seeds", [])),
        ]
        if paper := row.get("paper"):
            maps = [_number(paper["attributes"].get(name)) for name in attributes]
            yield [paper["name"], *maps, _number(paper["overall"]), "", "", "", "", "", ""]


def _legend(results: Mapping[str, Any]) -> list[str]:
    if not any("costs" in row for row in results["rows"]):
        return []
    return [
        "",
        "params: parameters; GMAC: billions of multiply-adds, ms: milliseconds, both to embed one image for one attribute "
        f"({results['device']}); images/s: in training, after stage 0. Equal for all networks: {results['budget']}.",
    ]


def _interval(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return ""
    return f"{difference['mean']:+.2f} ({difference['low']:+.2f} to {difference['high']:+.2f})"


def _scaled(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.3g}"


def _number(value: float | None, digits: int = 2, absent: str = "-") -> str:
    return absent if value is None else f"{value:.{digits}f}"


def _escaped(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, rf"\{character}" if character != "\\" else r"\textbackslash ")
    return text
