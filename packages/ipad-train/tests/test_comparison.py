from __future__ import annotations

import numpy as np
import pytest

from ipad_train.comparison import differences, mean_results


def row(name, overall, stuck=()):
    attributes = {"a": overall - 1, "b": overall + 1}
    return {"name": name, "overall": overall, "macro": overall, "attributes": attributes, "stuck": list(stuck)}


def result(rows, delivered, final, located=None):
    return {
        "split": "test", "queries": 3, "rows": rows, "delivered": delivered, "final": final, "localization": located,
        "random_localization": None, "beta": 0.5, "seconds": 10, "device": "CPU",
    }  # fmt: skip


FIRST = result(
    [row("random", 20.0), row("IP-SP", 40.0, ["b"]), row("fused", 50.0), row("fused + FR", 52.0)], "fused", "fused + FR",
    {"a": 60.0, "overall": 60.0},
)  # fmt: skip
SECOND = result(
    [row("random", 20.0), row("IP-SP", 44.0, ["b", "a"]), row("fused", 48.0), row("fused + FR (not used)", 48.0)],
    "fused", "fused + FR (not used)", {"a": 70.0, "overall": 70.0},
)  # fmt: skip
THIRD = result([row("random", 20.0), row("IP-SP", 45.0)], "IP-SP", "IP-SP")


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
        "IP-SP": base, "IP-SE": base + 0.1, "CSN mask": base - 0.2, "fused": base + 0.2, "lens": base + 0.05,
        "fused + FR": base + 0.25,
    }  # fmt: skip
    second = {**precisions, "fused + FR (not used)": precisions["fused"]}
    found = {(d.first, d.second): d.mean for d in differences([FIRST, SECOND], [precisions, second])}
    assert found == pytest.approx(
        {
            ("fused", "IP-SE"): 10.0, ("IP-SP", "CSN mask"): 20.0, ("fused", "lens"): 15.0, ("delivered", "lens"): 15.0,
            ("re-ranked", "not re-ranked"): 2.5,
        }
    )  # fmt: skip
    alone = differences([THIRD], [{"IP-SP": base}])
    assert alone == []
