"""Numbers of the paper: tables 1 to 3 and section 4.3, MAP in percent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

# Our rows -> the paper's.
PAPER_NAMES = {
    "random": "Baseline",
    "triplet": "Triplet",
    "CSN mask": "CSN",
    "ASEN": "ASEN",
    "HAEN": "HAEN",
    "AttnFashion": "AttnFashion",
    "ISLN": "ISLN",
    "ASEN++": "ASEN++",
    "RPF": "RPF",
    "fused": "IPAD",
    "fused + FR": "IPAD+FR",
}


def paper_row(dataset: str, row: str, attributes: Sequence[str]) -> dict[str, Any] | None:
    """The paper's row for one of ours; None where it has none.

    Args:
        dataset: A name of ``ipad_data.list_datasets()``; FashionAI, DARN and DeepFashion are in the paper.
        row: Its name in our table, e.g. ``CSN mask``.
        attributes: Names of the dataset's attributes, in the order of their ids, which is the paper's.

    Returns:
        ``{"name", "overall", "attributes": {name: MAP}}``, percent.

    Raises:
        ValueError: another number of attributes than the paper's table has.
    """
    numbers = _results()["tables"].get(dataset, {}).get(PAPER_NAMES.get(row))
    if numbers is None:
        return None
    *of_attributes, overall = numbers
    if len(attributes) != len(of_attributes):
        raise ValueError(f"attributes must be the paper's {len(of_attributes)} of {dataset}, got {len(attributes)}")
    return {
        "name": f"{PAPER_NAMES[row]} (paper)",
        "overall": overall,
        "attributes": dict(zip(attributes, of_attributes, strict=True)),
    }


def paper_ablation(figure: str) -> dict[str, float]:
    """Overall MAP on FashionAI by variant, of those that the text gives for a figure; empty where it gives none."""
    return dict(_results()["ablations"].get(figure, {}))


@cache
def _results() -> dict[str, Any]:
    return json.loads((resources.files("ipad_train.paper") / "results.json").read_text(encoding="utf-8"))
