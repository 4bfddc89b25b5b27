"""What a fit concludes from its held-out queries."""

from __future__ import annotations

import pytest

from ipad_rerank.rerankers.feature_reasoning.held_out import AtSize, FitReport


@pytest.mark.parametrize(
    ("sizes", "best"),
    [
        ([(1000, 0.57, 0.684, 1.0), (2600, 0.70, 0.723, 1.0), (7000, 0.69, 0.707, 1.0)], 2600),  # not the largest gain
        ([(1000, 0.74, 0.757, 1.0), (2600, 0.73, 0.756, 1.0), (7000, 0.73, 0.744, 1.0)], 2600),  # level: the larger
        ([(500, 0.5, 0.6, 1.0)], 500),
    ],
)
def test_best_gallery_is_the_largest_of_those_with_the_best_map(sizes, best):
    assert FitReport(0.6, 0.7, None, tuple(AtSize(*at) for at in sizes)).best_size == best
