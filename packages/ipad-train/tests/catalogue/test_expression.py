"""Filters: what parses, what it means, and what is refused."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from ipad_train.catalogue.columns import Columns
from ipad_train.catalogue.conditions import read_filter
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.expression import Among, Both, Comparison, Either, Not, parse
from ipad_train.catalogue.manifest import Manifest

MANIFEST = Manifest(
    "run",
    "f",
    {"collar": ["none", "shirt"], "sleeve": ["short", "long"]},
    4,
    32,
    "/photos",
    kinds={"price": "number", "brand": "text", "odd name": "text"},
    fields={"price": "n0", "brand": "s0", "odd name": "s15"},
)
COLUMNS = Columns.of(MANIFEST)


def test_and_binds_more_tightly_than_or():
    found = parse("a == 1 or b == 'x' and not c in [1, 2.5]")
    assert found == Either(Comparison("a", "==", 1.0), Both(Comparison("b", "==", "x"), Not(Among("c", (1.0, 2.5)))))


def test_quotes_and_backslashes_within_texts():
    assert parse(r"""a == 'it\'s' and b != "a\\b" """) == Both(
        Comparison("a", "==", "it's"), Comparison("b", "!=", "a\\b")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price < 50 and brand == 'x'", '((n0 < 50.0) and (s0 == "x"))'),
        ("not price < 50", "(n0 >= 50.0)"),
        ("not (price < 50 or brand = 'x')", '((n0 >= 50.0) and (s0 != "x"))'),
        ("collar == 'shirt'", "(v0 == 1 and v0 >= 0)"),
        ("sleeve not in ['long']", "(v1 not in [1] and v1 >= 0)"),
        ("collar.confidence > 0.5", '(extra["c0"] > 0.5)'),
        ("`odd name` == 'a\"b'", '(extra["s15"] == "a\\"b")'),
    ],
)
def test_expression_of_the_engine(text, expected):
    assert read_filter(text, COLUMNS).expression() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prise < 50", "did you mean one of: price"),
        ("price < 'cheap'", "holds numbers"),
        ("brand == 3", "holds texts"),
        ("brand < 'x'", "only == , != and in compare"),
        ("collar == 'shirts'", "'collar' has no value 'shirts'; its values: shirt"),
        ("price < 50 and", "ends too early"),
        ("price < 50 brand == 'x'", "expected 'and', 'or' or the end"),
        ("price", "expected ==, !="),
        ("price < 50; drop", "does not parse at 11"),
        ("price < 5x", "does not parse"),
        ("id in ['a']", "names 'id'"),
        ("brand == 'x", "does not parse"),
        ("brand == 'a\nb'", "control characters"),
        ("(" * 40 + "price < 1" + ")" * 40, "nests deeper"),
        (" or ".join(["price < 1"] * 200), "more than 100 tests"),
        ("a" * 5000, "5000 characters"),
        ("price in [" + ",".join(["1"] * 600) + "]", "more than 500 entries"),
        ("brand in []", "expected a number, or a text"),
        ("and == 1", "expected the name"),
        ("not " * 100 + "price < 1", "nests deeper"),
    ],
)
def test_bad_filters_say_what_is_wrong(text, message):
    with pytest.raises(CatalogueError, match=message.replace("(", r"\(")):
        read_filter(text, COLUMNS)


def test_no_filter_is_no_condition():
    assert read_filter("  ", COLUMNS) is None
    assert read_filter(None, COLUMNS) is None


def test_any_text_is_refused_or_becomes_an_expression_of_our_own_words():
    """Filters with pieces of them exchanged at random: an error of ours, or nothing of the text outside of quotes."""
    pieces = [
        "price",
        "brand",
        "and",
        "or",
        "not",
        "in",
        "(",
        ")",
        "]",
        ",",
        "==",
        "<",
        "1",
        "'x'",
        '"',
        "`",
        ";",
        "\\",
        "--",
        "'] or 1==1 or s0 in ['",
        "extra",
        "id",
        "'\\'\"'",
        "\n",
        "é",
    ]
    whole = [
        "price",
        "<",
        "1",
        "and",
        "brand",
        "==",
        "'x'",
        "or",
        "not",
        "collar",
        "in",
        "[",
        "'shirt'",
        ",",
        "'none'",
        "]",
    ]
    ours = {"n0", "s0", "v0", "and", "or", "not", "in", "==", "!=", "<", ">=", "1.0", "0", "1"}
    rng, parsed = random.Random(0), 0
    for _ in range(3000):
        words = list(whole)
        for _ in range(rng.randint(1, 3)):
            words[rng.randrange(len(words))] = rng.choice(pieces)
        try:
            found = read_filter(" ".join(words), COLUMNS)
        except CatalogueError:
            continue
        parsed += 1
        assert set(re.sub(r"[()\[\],]", " ", _without_texts(found.expression())).split()) <= ours
    assert parsed > 40


def _without_texts(expression: str) -> str:
    kept, inside, skip = [], False, False
    for letter in expression:
        if skip:
            skip = False
        elif inside and letter == "\\":
            skip = True
        elif letter == '"':
            inside = not inside
        elif not inside:
            kept.append(letter)
    return "".join(kept)


class Photos:
    """Three photos: the second has no price and no collar."""

    def column(self, column):
        cells = {
            "n0": np.array([10.0, np.nan, 90.0]),
            "s0": np.array(["x", "y", None], dtype=object),
            "v0": np.array([1, -1, 0]),
        }[column.field]
        known = cells >= 0 if column.field == "v0" else np.array([cell is not None and cell == cell for cell in cells])
        return cells, known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price < 50", [1, 0, 0]),
        ("not price < 50", [0, 0, 1]),
        ("brand != 'x'", [0, 1, 0]),
        ("collar != 'shirt'", [0, 0, 1]),
        ("not collar == 'none'", [1, 0, 0]),
        ("brand not in ['x', 'z']", [0, 1, 0]),
        ("collar in ['shirt', 'none']", [1, 0, 1]),
        ("price < 50 or brand == 'y'", [1, 1, 0]),
        ("not (price >= 50 and brand == 'x')", [1, 1, 0]),
    ],
)
def test_photos_without_a_cell_pass_no_test_on_it(text, expected):
    assert read_filter(text, COLUMNS).mask(Photos()).tolist() == [bool(each) for each in expected]
