"""The MAP table of a report: which numbers are best, and which never left chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipad_train.chance import stuck_attributes

_MEANINGS = {
    "random": "what a ranking at random is expected to have",
    "frozen trunk": "the trunk's own features, nothing trained",
    "stage 0 alone": "the trunk as attribute classification left it, before any triplet",
    "IP-SP": "the first branch, which attends to the attribute's region in the whole photo",
    "IP-SE": "the second branch, which looks closely at the part that the first one found",
    "fused": "both branches together",
    "+ values": "with the probabilities of the attribute's values in the embedding",
    "+ FR": "with the best candidates re-ordered by Feature Reasoning",
    "+ re-ranking": "with Feature Reasoning, a query expansion or both in turn, as raised validation MAP most",
}


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


def row_meanings(results: dict[str, Any]) -> dict[str, str]:
    """What the parts of the rows' names mean, of those that the table has."""
    names = [row["name"] for row in results["rows"]]
    return {part: text for part, text in _MEANINGS.items() if any(part in name for name in names)}


def _percent(number: float | None, digits: int = 2) -> str:
    return "" if number is None else f"{number:.{digits}f}"
