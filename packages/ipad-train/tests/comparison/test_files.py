from __future__ import annotations

import csv
import json

from ipad_train.comparison.files import write_comparison

RESULTS = {
    "split": "test", "device": "CPU", "budget": "steps", "against": "triplet", "dataset": "fashionai",
    "rows": [
        {"name": "random", "overall": 20.0, "macro": 21.0, "attributes": {"sleeve_length": 19.0, "collar": 23.0}},
        {"name": "triplet", "overall": 35.125, "macro": 33.0, "attributes": {"sleeve_length": 30.0, "collar": 36.0},
         "costs": {"parameters": 9_600_000, "multiply_adds": 3_280_000_000, "milliseconds": 4.26,
                   "images_per_second": None}},
        {"name": "fused", "overall": 40.0, "macro": 40.0, "attributes": {"sleeve_length": 41.0, "collar": None},
         "costs": {"parameters": 107_200_000, "multiply_adds": 21_190_000_000, "milliseconds": 80.0,
                   "images_per_second": 61.7},
         "difference": {"mean": 4.875, "low": 1.0, "high": 9.0},
         "paper": {"name": "IPAD (paper)", "overall": 73.69, "attributes": {"sleeve_length": 68.32, "collar": 79.37}}},
    ],
}  # fmt: skip


def test_one_table_in_four_forms(tmp_path):
    text = write_comparison(tmp_path, RESULTS)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[:6]]
    assert lines[0] == [
        "test MAP, %", "sleeve_length", "collar", "overall", "params, M", "GMAC", "ms", "images/s", "- triplet (95 %)",
    ]  # fmt: skip
    assert lines[4] == ["fused", "41.00", "-", "40.00", "107", "21.2", "80.0", "62", "+4.88 (+1.00 to +9.00)"]
    assert lines[5] == ["IPAD (paper)", "68.32", "79.37", "73.69", "", "", "", "", ""]
    assert "Equal for all networks: steps." in text
    assert (tmp_path / "comparison.md").read_text() == f"{text}\n"
    assert json.loads((tmp_path / "comparison.json").read_text()) == RESULTS
    rows = list(csv.DictReader((tmp_path / "comparison.csv").read_text().splitlines()))
    assert rows[1]["overall"] == "35.125"
    assert (rows[2]["difference"], rows[2]["against"], rows[2]["paper"]) == ("4.875", "triplet", "73.69")
    assert (rows[0]["parameters"], rows[2]["collar"]) == ("", "")
    latex = (tmp_path / "comparison.tex").read_text()
    assert r"test MAP, \% & sleeve\_length & collar" in latex
    assert r"IPAD (paper) & 68.32" in latex
    assert latex.count(r"\\") == 5


def test_columns_that_nobody_fills_are_left_out(tmp_path):
    results = {**RESULTS, "against": None, "rows": RESULTS["rows"][:1]}
    header = write_comparison(tmp_path, results).splitlines()[0]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["test MAP, %", "sleeve_length", "collar", "overall"]
