from __future__ import annotations

import csv
import json

import pytest

from ipad_train.ablation.drawing import draw_bars, draw_curve
from ipad_train.ablation.results import IN_BOX, figure_results, write_ablation
from ipad_train.ablation.variants import Figure

SEEDS = [
    {"w/o SE": {"a": 40.0, "overall": 50.0}, "w/ IP": {"a": 44.0, "overall": 60.0}},
    {"w/o SE": {"a": 44.0, "overall": 54.0}, "w/ IP": {"a": 44.0, "overall": 60.0}},
]
BARS = figure_results(Figure("Branches", "", {}), SEEDS, {"w/ IP": 73.17})
CURVE = figure_results(Figure("Rounds", "Iter", {}), [{"1": {"overall": 3.0}, "2": {"overall": 4.0}}], {})


def test_means_and_deviations_by_hand():
    first, second = BARS["points"]
    assert first["mean"] == {"a": 42.0, "overall": 52.0}
    assert first["deviation"] == pytest.approx({"a": 8**0.5, "overall": 8**0.5})
    assert (first["seeds"], first["paper"]) == ([50.0, 54.0], None)
    assert (second["deviation"]["overall"], second["paper"]) == (0.0, 73.17)
    assert CURVE["points"][1]["deviation"] == {"overall": 0.0}


def test_tables_and_numbers(tmp_path):
    results = {"split": "test", "seeds": [0, 1], "figures": {"2": BARS, "5": CURVE}}
    text = write_ablation(tmp_path, results)
    assert "Figure 2: Branches (test MAP, %)" in text
    assert "| w/o SE | 42.00 | 52.00 ± 2.83 | 50.0 / 54.0 |       |" in text
    assert "| Iter | overall |" in text
    assert json.loads((tmp_path / "ablation.json").read_text()) == results
    rows = list(csv.DictReader((tmp_path / "ablation.csv").read_text().splitlines()))
    assert rows[3] == {
        "figure": "2",
        "point": "w/ IP",
        "measure": "overall",
        "mean": "60.0",
        "deviation": "0.0",
        "paper": "73.17",
    }


def test_drawings_are_svg_and_equal_for_equal_numbers(tmp_path):
    for draw, figure in ((draw_bars, BARS), (draw_curve, CURVE)):
        draw(figure, tmp_path / "one.svg")
        assert figure["title"]
        content = (tmp_path / "one.svg").read_text()
        assert content.lstrip().startswith("<?xml")
        assert content.count("<path") > 10


def test_where_attention_peaks_is_a_column_of_its_own_and_no_bar(tmp_path):
    seeds = [{"one": {"a": 40.0, "overall": 50.0, IN_BOX: 70.0}, "two": {"a": 41.0, "overall": 51.0, IN_BOX: 60.0}}]
    table = figure_results(Figure("Readings of something", "", {}), seeds, {})
    text = write_ablation(tmp_path, {"split": "test", "seeds": [0], "figures": {"readings": table}})
    assert text.startswith("Readings of something (test MAP, %)")
    assert "overall | peak in the box |" in text
    assert "| one | 40.00 | 50.00   | 70.0            |" in text
    draw_bars(table, tmp_path / "bars.svg")
    assert "peak" not in (tmp_path / "bars.svg").read_text()
