from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest

from ipad_data import AttributeSchema
from ipad_data.label_files import LabelledImage
from ipad_data.random_ranking import expected_random_ap, expected_random_map


def brute_force(num_relevant: int, num_gallery: int) -> Fraction:
    """Mean AP over all placements of the relevant items, counted exactly."""
    total, placements = Fraction(0), 0
    for places in combinations(range(1, num_gallery + 1), num_relevant):
        total += sum(Fraction(hits, rank) for hits, rank in enumerate(places, start=1)) / num_relevant
        placements += 1
    return total / placements


@pytest.mark.parametrize("num_gallery", [1, 2, 3, 7, 9])
def test_matches_brute_force(num_gallery):
    for num_relevant in range(1, num_gallery + 1):
        expected = brute_force(num_relevant, num_gallery)
        assert expected_random_ap(num_relevant, num_gallery) == pytest.approx(float(expected), abs=1e-14)


def test_edges():
    assert expected_random_ap(0, 5) == 0.0
    assert expected_random_ap(5, 5) == pytest.approx(1.0)
    for relevant, gallery in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected 0 <= num_relevant"):
            expected_random_ap(relevant, gallery)


def test_map_weighs_by_queries_and_counts_queries_without_relevant_as_zero():
    schema = AttributeSchema({"color": ["a", "b"], "shape": ["c", "d"]})
    images = [
        LabelledImage("q0", 0, (0,), (0,), (1,)),
        LabelledImage("q1", 1, (0,), (1,), (1,)),  # no relevant candidate
        LabelledImage("q2", 2, (1,), (2,), (1,)),
        LabelledImage("g0", 3, (0, 1), (0, 2), (2, 2)),
        LabelledImage("g1", 4, (0, 1), (0, 3), (2, 2)),
    ]
    result = expected_random_map(images, schema)
    assert result.per_attribute == pytest.approx({"color": 0.5, "shape": 0.75})
    assert result.num_queries == {"color": 2, "shape": 1}
    assert result.overall == pytest.approx((1 + 0 + 0.75) / 3)
    with pytest.raises(ValueError, match="must hold query entries"):
        expected_random_map(images[3:], schema)


def test_published_test_split_figures_weigh_by_queries():
    """What expected_random_map gives for FashionAI's test files, with their numbers of queries; the paper says 15.79."""
    queries = (422, 623, 535, 422, 341, 289, 703, 265)
    percent = (17.20, 12.50, 13.35, 17.45, 22.36, 21.62, 11.09, 21.20)
    weighted = sum(n * p for n, p in zip(queries, percent, strict=True)) / sum(queries)
    assert weighted == pytest.approx(15.79, abs=0.005)
