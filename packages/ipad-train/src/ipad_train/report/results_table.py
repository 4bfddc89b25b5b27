"""The MAP table of a report: which numbers are best, and which never left chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipad_train.chance import stuck_attributes


@dataclass(frozen=True)
class Cell:
    """A number as it is shown; ``best`` of its column; ``at_chance`` see ``stuck_attributes``."""

    text: str
    best: bool = False
    at_chance: bool = False


@dataclass(frozen=True)
class ResultsTable:
    """``columns`` attributes, overall and macro; ``rows`` (name, cells).

    ``localization`` and ``random_localization``: texts by column, or None.
    """

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    localization: list[str] | None
    random_localization: list[str] | None = None


def results_table(results: dict[str, Any]) -> ResultsTable:
    """Table of an evaluation or a comparison, numbers in percent.

    The first row is the expected MAP of a random ranking; it is never best. Numbers that show the same are best together.
    """
    attributes = list(results["rows"][0]["attributes"])
    columns = [*attributes, "overall", "macro"]
    numbers = [
        [*(row["attributes"].get(name) for name in attributes), row["overall"], row["macro"]]
        for row in results["rows"]
    ]
    texts = [[_percent(number) for number in row] for row in numbers]
    best = [max((row[i] for row in numbers[1:] if row[i] is not None), default=None) for i in range(len(columns))]
    rows, random = [], results["rows"][0]["attributes"]
    for position, row in enumerate(results["rows"]):
        stuck = set(stuck_attributes(row["attributes"], random)) if position else set()
        cells = [
            Cell(texts[position][i], bool(position) and texts[position][i] == _percent(best[i]), columns[i] in stuck)
            for i in range(len(columns))
        ]
        rows.append((row["name"], cells))
    located, by_chance = (
        [_percent(shares.get(name), 1) for name in columns] if (shares := results.get(key)) else None
        for key in ("localization", "random_localization")
    )
    return ResultsTable(columns, rows, located, by_chance if located else None)


def _percent(number: float | None, digits: int = 2) -> str:
    return "" if number is None else f"{number:.{digits}f}"
