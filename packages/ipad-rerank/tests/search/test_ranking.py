"""What a Ranking holds is checked when it is made."""

from __future__ import annotations

import numpy as np
import pytest

from ipad_rerank import Ranking


@pytest.mark.parametrize(
    ("indices", "scores", "error"),
    [
        ([[0, 1]], [[0.1, 0.2]], ValueError),  # ascending
        ([[0, 0]], [[0.2, 0.1]], ValueError),  # repeated
        ([[0, 1], [900, 900]], [[0.2, 0.1]] * 2, ValueError),
        ([[0, 1, 2], [2, 0, 2]], [[0.3, 0.2, 0.1]] * 2, ValueError),
        ([[-1, 0]], [[0.2, 0.1]], ValueError),
        ([[0, 1]], [[np.nan, 0.1]], ValueError),
        ([[0, 1]], [[0.2]], ValueError),
        ([[0.0, 1.0]], [[0.2, 0.1]], TypeError),
        ([[0, 1]], [[2, 1]], TypeError),
    ],
)
def test_ranking_is_validated(indices, scores, error):
    with pytest.raises(error):
        Ranking(np.array(indices), np.array(scores))


def test_ranking_is_frozen_and_turns_indices_into_int64():
    ranking = Ranking(np.array([[1, 0]], dtype=np.int32), np.array([[0.5, 0.1]]))
    assert ranking.indices.dtype == np.int64
    with pytest.raises(AttributeError):
        ranking.indices = None
