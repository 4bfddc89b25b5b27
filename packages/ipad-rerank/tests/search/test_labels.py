"""Labels of any kind: numbers, truth values, words, and none at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import Ranking, average_precision, evaluate, tune
from ipad_rerank.search.labels import UNLABELLED, as_labels, check_same_kind, label_kind

RANKING = Ranking(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), np.zeros((2, 4)))


@pytest.mark.parametrize(
    ("query", "gallery"),
    [
        ([1, 0], [1, 0, 1, 0]),
        (["b", "a"], ["b", "a", "b", "a"]),
        ([True, False], np.array([True, False, True, False])),
        (np.array(["b", None], dtype=object), np.array(["b", None, "b", None], dtype=object)),
        (torch.tensor([1, 0]), torch.tensor([1, 0, 1, 0])),
        ([True, False], [1, 0, 1, 0]),
    ],
)
def test_equal_labels_are_relevant_and_none_equals_nothing(query, gallery):
    first = (1 + 2 / 3) / 2  # places 1 and 3
    second = 0.0 if np.asarray(query).dtype.kind == "O" else first
    np.testing.assert_allclose(np.asarray(average_precision(RANKING, query, gallery)), [first, second])
    skipped = np.asarray(average_precision(RANKING, query, gallery, no_relevant="skip"))
    assert bool(np.isnan(skipped[1])) == (second == 0.0)


def test_one_and_the_word_for_it_are_an_error_not_a_zero():
    for call in (average_precision, evaluate):
        with pytest.raises(TypeError, match="query_labels are numbers and gallery_labels are words: none would equal"):
            call(RANKING, [1, 0], ["1", "0", "1", "0"])
    with pytest.raises(TypeError, match="query_labels are words and gallery_labels are numbers"):
        tune("k_reciprocal", np.eye(4), np.eye(4), list("abcd"), [1, 2, 3, 4])
    check_same_kind([None, None], "first", ["a"], "second")
    check_same_kind([1.0], "first", [True], "second")


def test_words_have_the_same_number_wherever_they_stand():
    few, many = (as_labels(words, "labels", len(words), "x").tolist() for words in (["b"], ["a", "c", "b", "b"]))
    assert few == many[2:3] == many[3:]
    assert len(set(many)) == 3
    assert as_labels([None, 3, None], "labels", 3, "x").tolist() == [UNLABELLED, 3, UNLABELLED]


@pytest.mark.parametrize(
    ("labels", "kind"), [([1], "numbers"), ([1.0], "numbers"), ([True], "numbers"), (["a"], "words"), ([None], None)]
)
def test_kinds(labels, kind):
    assert label_kind(labels, "labels") == kind


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.5], ValueError, "labels must be whole numbers or words"),
        ([float("inf")], ValueError, "labels must be whole numbers or words, got float64 with fractions, NaN or more"),
        ([2**70], ValueError, "labels must fit into 64 bits"),
        ([[1]], ValueError, r"labels must have shape \(N,\)"),
        ([1, 2], ValueError, "labels has 2 entries, x has 1 rows"),
        (np.array([{}], dtype=object), TypeError, "got dict"),
        (np.array([b"a"]), TypeError, "not both and nothing else; got bytes"),
        (np.array([1j]), TypeError, "labels must be whole numbers or words"),
    ],
)
def test_bad_input(labels, error, message):
    with pytest.raises(error, match=message):
        as_labels(labels, "labels", 1, "x")
