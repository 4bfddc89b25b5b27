from __future__ import annotations

import pytest

from ipad_train.paper import paper_ablation, paper_row

FASHIONAI = ["skirt", "sleeve", "coat", "pant", "collar", "lapel", "neckline", "neck"]


def test_rows_of_the_three_tables():
    row = paper_row("fashionai", "CSN mask", FASHIONAI)
    assert (row["name"], row["overall"], row["attributes"]["skirt"]) == ("CSN (paper)", 53.52, 61.97)
    assert paper_row("fashionai", "random", FASHIONAI)["overall"] == 15.79
    assert paper_row("darn", "fused + FR", list("abcdefghi"))["overall"] == 66.31
    assert paper_row("deepfashion", "fused", list("abcde"))["attributes"]["e"] == 6.31


@pytest.mark.parametrize(
    ("dataset", "row"), [("rendered", "CSN mask"), ("fashionai", "lens"), ("deepfashion", "HAEN")]
)
def test_what_the_paper_does_not_have(dataset, row):
    assert paper_row(dataset, row, list("abcde")) is None


def test_another_number_of_attributes():
    with pytest.raises(ValueError, match="attributes must be the paper's 8 of fashionai, got 2"):
        paper_row("fashionai", "triplet", ["a", "b"])


def test_ablations_that_the_text_gives():
    assert paper_ablation("2") == {"w/o SE": 68.47, "w/o SP": 70.45, "w/ IP": 73.17}
    assert paper_ablation("6") == {}
