from __future__ import annotations

from ipad_train.report.results_table import results_table


def row(name, *numbers):
    attributes = dict(zip(("sleeve", "collar"), numbers[:2], strict=False))
    return {"name": name, "overall": numbers[-1], "macro": numbers[-1], "attributes": attributes}


RESULTS = {
    "rows": [row("random", 20.0, 90.0, 50.0), row("a", 24.0, 80.0, 52.001), row("b", 30.0, 70.0, 52.004)],
    "localization": {"sleeve": 75.04, "overall": 60.0},
}


def cells(name):
    return dict(results_table(RESULTS).rows)[name]


def test_best_of_each_column_never_random_and_ties_as_shown():
    assert [cell.best for cell in cells("random")] == [False] * 4
    assert [cell.best for cell in cells("a")] == [False, True, True, True]
    assert [cell.best for cell in cells("b")] == [True, False, True, True]


def test_at_chance_is_below_a_tenth_of_the_way_to_perfect():
    assert [cell.at_chance for cell in cells("a")] == [True, True, False, False]
    assert [cell.at_chance for cell in cells("b")] == [False, True, False, False]
    assert not any(cell.at_chance for cell in cells("random"))


def test_localization_row_leaves_gaps():
    table = results_table(RESULTS)
    assert table.columns == ["sleeve", "collar", "overall", "macro"]
    assert table.localization == ["75.0", "", "60.0", ""]
    assert table.random_localization is None
    assert results_table({"rows": RESULTS["rows"], "localization": None}).localization is None
    known = results_table({**RESULTS, "random_localization": {"sleeve": 9.96, "overall": 9.0}})
    assert known.random_localization == ["10.0", "", "9.0", ""]
