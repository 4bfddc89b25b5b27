"""What a fit concludes from its held-out queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.metrics.summary import Interval
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut
from ipad_rerank.rerankers.feature_reasoning.report import AtSize, FitReport, Gain
from ipad_rerank.rerankers.feature_reasoning.sequences import TrainingSet


@pytest.mark.parametrize(
    ("sizes", "best"),
    [
        ([(1000, 0.57, 0.684, 1.0), (2600, 0.70, 0.723, 1.0), (7000, 0.69, 0.707, 1.0)], 2600),  # not the largest gain
        ([(1000, 0.74, 0.757, 1.0), (2600, 0.73, 0.756, 1.0), (7000, 0.73, 0.744, 1.0)], 2600),  # level: the larger
        ([(500, 0.5, 0.6, 1.0)], 500),
    ],
)
def test_best_gallery_is_the_largest_of_those_with_the_best_map(sizes, best):
    assert FitReport("map", {}, tuple(AtSize(*at) for at in sizes)).best_size == best


def test_a_report_says_what_each_measure_does():
    sure, unsure = Interval(0.02, 0.01, 0.03, 0.95, 40), Interval(0.02, -0.01, 0.05, 0.95, 40)
    gains = {"map": Gain(0.5, 0.52, sure), "precision@1": Gain(0.8, 0.82, unsure)}
    sizes = (AtSize(100, 0.5, 0.6, 0.2), AtSize(900, 0.5, 0.44, 0.01))
    assert FitReport("map", gains, sizes).is_gain
    assert not FitReport("precision@1", gains, sizes).is_gain
    assert not FitReport("map", gains, (*sizes, AtSize(5000, 0.5, 0.4, -0.01))).is_gain
    assert not FitReport("map", {}, sizes).is_gain
    text = str(FitReport("map", gains, sizes))
    assert "Held out: MAP 50.00 -> 52.00, +2.00 (95 % interval +1.00 to +3.00) on 40 held-out queries" in text
    assert "  P@1 80.00 -> 82.00" in text
    content = FitReport("map", gains, sizes).to_dict()
    assert content["measures"]["map"]["after"] == 0.52
    assert content["measures"]["precision@1"]["gain_interval"] == [-0.01, 0.05]


@pytest.fixture
def held():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(6, size=400))
    vectors = (
        torch.from_numpy(rng.normal(size=(6, 12))).float()[labels]
        + torch.from_numpy(rng.normal(size=(400, 12))).float()
    )
    unit = F.normalize(vectors, dim=1)
    rows = torch.arange(400)
    generator = torch.Generator().manual_seed(0)
    data = TrainingSet(unit, labels, torch.zeros(400, dtype=torch.int64), rows[60:], 80, (), generator)
    return HeldOut(data, rows[:60], [160, 340])


def test_a_harmful_reasoner_is_blended_away_and_lists_that_lose_are_left_alone(held, shaken):
    harmful = shaken(scale=3.0, n_r=80)
    assert held.gain(harmful) < -0.02
    assert held.best_blend(harmful) == 0.25
    harmful.blend = 0.5
    assert held.blends(harmful) == ((20, 0.0), (32, 0.0), (51, 0.0), (79, 0.5))
    assert held.best_blend(shaken(scale=0.0, n_r=80)) == 1.0
    assert {blend for _, blend in held.blends(shaken(scale=0.0, n_r=80))} == {1.0}
    odd = shaken(scale=0.0, n_r=80, blend=0.1)
    assert {blend for _, blend in held.blends(odd)} == {0.1}
