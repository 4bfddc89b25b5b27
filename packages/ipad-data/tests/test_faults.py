from __future__ import annotations

import pytest

from ipad_data import DataWarning, LabelFileError
from ipad_data.faults import Faults


def test_nothing_found_is_silent():
    Faults().settle("here")


def test_all_kinds_are_told_at_once():
    faults = Faults()
    for i in range(5):
        faults.add("images are odd", f"file:{i}")
    faults.add("lines are even", "file:9")
    text = r"(?s)here: .*5 images are odd, e\.g\. file:0; file:1; file:2\n.*1 lines are even, e\.g\. file:9.*faults='warn'"
    with pytest.raises(LabelFileError, match=text):
        faults.settle("here")


def test_they_can_be_lived_with():
    faults = Faults("warn")
    faults.add("images are odd", "file:1")
    with pytest.warns(DataWarning, match=r"(?s)here: .*1 images are odd, e\.g\. file:1"):
        faults.settle("here")
