"""``KEY=VALUE`` options."""

from __future__ import annotations

import pytest

from ipad_data.assignments import parse_assignment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", ("seed", 3)),
        ("stage1.steps = 10", ("stage1.steps", 10)),
        ("faults=warn", ("faults", "warn")),
        ("cached=false", ("cached", False)),
        ("size=", ("size", None)),
        ("size=null", ("size", None)),
        ("keys=[a, 2]", ("keys", ["a", 2])),
        ('columns={"image": "file"}', ("columns", {"image": "file"})),  # JSON is YAML
        ("url=http://host:80/a=b", ("url", "http://host:80/a=b")),
    ],
)
def test_values_are_yaml(text, expected):
    assert parse_assignment(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "an option must read KEY=VALUE, got 'seed'"),
        ("=3", "must read KEY=VALUE"),
        ("a=[1", r"the value of 'a' is not valid YAML: '\[1'"),
    ],
)
def test_bad_input(text, message):
    with pytest.raises(ValueError, match=message):
        parse_assignment(text)
