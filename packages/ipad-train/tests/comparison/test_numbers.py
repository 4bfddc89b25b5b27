from __future__ import annotations

import numpy as np
import pytest

from ipad_train.comparison.numbers import add_differences, differences, mean_results


def row(name, overall, stuck=()):
    attributes = {"a": overall - 1, "b": overall + 1}
    return {"name": name, "overall": overall, "macro": overall, "attributes": attributes, "stuck": list(stuck)}


def result(rows, delivered, final, located=None):
    return {
        "split": "test",
        "queries": 3,
        "rows": rows,
        "delivered": delivered,
        "final": final,
        "localization": located,
        "random_localization": None,
        "beta": 0.5,
        "seconds": 10,
        "device": "CPU",
    }


FIRST = result(
    [row("random", 20.0), row("IP-SP", 40.0, ["b"]), row("fused", 50.0), row("fused + FR", 52.0)],
    "fused",
    "fused + FR",
    {"a": 60.0, "overall": 60.0},
)
SECOND = result(
    [row("random", 20.0), row("IP-SP", 44.0, ["b", "a"]), row("fused", 48.0), row("fused + FR (not used)", 48.0)],
    "fused",
    "fused + FR (not used)",
    {"a": 70.0, "overall": 70.0},
)
THIRD = result([row("random", 20.0), row("IP-SP", 45.0)], "IP-SP", "IP-SP")


def test_what_probabilities_of_values_add_counts_where_they_are_used():
    base = np.array([0.1, 0.5, 0.3])
    used = result([row("fused", 30.0), row("fused + values", 40.0)], "fused + values", "fused + values")
    left = result([row("fused", 30.0)], "fused", "fused")
    mine = [{"fused": base, "fused + values": base + 0.1}, {"fused": base}]
    found = {(d.first, d.second): d.mean for d in differences([used, left], mine)}
    assert found == pytest.approx({("with values", "without"): 5.0})


def test_means_over_seeds_by_hand():
    means = mean_results([FIRST, SECOND, THIRD], [0, 1, 5])
    rows = {row["name"]: row for row in means["rows"]}
    assert list(rows) == ["random", "IP-SP", "fused", "fused + FR"]
    assert rows["IP-SP"]["overall"] == 43.0
    assert rows["IP-SP"]["attributes"] == {"a": 42.0, "b": 44.0}
    assert rows["IP-SP"]["seeds"] == [40.0, 44.0, 45.0]
    assert rows["IP-SP"]["stuck"] == {"b": 2, "a": 1}
    assert (rows["fused"]["overall"], rows["fused"]["seeds"]) == (49.0, [50.0, 48.0, None])
    assert rows["fused + FR"]["overall"] == 50.0
    assert (means["final"], means["delivered"], means["seconds"]) == ("fused + FR", "fused", 30)
    assert means["localization"] == {"a": 65.0, "overall": 65.0}
    assert means["seeds"] == [0, 1, 5]


def test_the_differences_that_matter_where_their_rows_are():
    base = np.array([0.1, 0.5, 0.3])
    precisions = {
        "IP-SP": base,
        "IP-SE": base + 0.1,
        "CSN mask": base - 0.2,
        "fused": base + 0.2,
        "lens": base + 0.05,
        "fused + FR": base + 0.25,
    }
    second = {**precisions, "fused + FR (not used)": precisions["fused"]}
    found = {(d.first, d.second): d.mean for d in differences([FIRST, SECOND], [precisions, second])}
    assert found == pytest.approx(
        {
            ("fused", "IP-SE"): 10.0,
            ("IP-SP", "CSN mask"): 20.0,
            ("fused", "lens"): 15.0,
            ("delivered", "lens"): 15.0,
            ("re-ranked", "not re-ranked"): 2.5,
        }
    )
    alone = differences([THIRD], [{"IP-SP": base}])
    assert alone == []


def test_a_row_of_some_seeds_stands_where_its_seed_has_it():
    second = result([row("random", 20.0), row("part", 41.0), row("IP-SP", 44.0), row("fused", 48.0)], "fused", "fused")
    names = [row["name"] for row in mean_results([FIRST, second], [0, 1])["rows"]]
    assert names == ["random", "part", "IP-SP", "fused", "fused + FR"]


def test_costs_and_the_papers_row_are_carried_over():
    def costly(speed):
        return {
            **row("CSN mask", 40.0),
            "paper": {"overall": 53.52},
            "costs": {"parameters": 7, "multiply_adds": 9, "milliseconds": speed, "images_per_second": None},
        }

    both = [
        {**result([row("random", 20.0), costly(speed)], "CSN mask", "CSN mask"), "budget": "steps"} for speed in (2, 4)
    ]
    means = mean_results(both, [0, 1])
    assert means["rows"][1]["costs"] == {
        "parameters": 7,
        "multiply_adds": 9,
        "milliseconds": 3.0,
        "images_per_second": None,
    }
    assert means["rows"][1]["paper"] == {"overall": 53.52}
    assert means["budget"] == "steps"


def test_every_row_against_one_of_them():
    base = np.array([0.1, 0.5, 0.3])
    one = {"IP-SP": base, "fused": base + 0.2, "fused + FR": base + 0.3}
    two = {"IP-SP": base, "fused": base + 0.1, "fused + FR (not used)": base + 0.1}
    means = mean_results([FIRST, SECOND], [0, 1])
    add_differences(means, [one, two], "IP-SP")
    found = {row["name"]: row.get("difference") for row in means["rows"]}
    assert found["random"] is None
    assert found["IP-SP"] is None
    assert found["fused"] == pytest.approx({"mean": 15.0, "low": 15.0, "high": 15.0})
    assert found["fused + FR"] == pytest.approx({"mean": 20.0, "low": 20.0, "high": 20.0})
    add_differences(means, [one, two], None)
    assert not any("difference" in row for row in means["rows"])
    with pytest.raises(ValueError, match=r"against must be a row of the table: IP-SP, fused, fused \+ FR; got 'lens'"):
        add_differences(means, [one, two], "lens")
