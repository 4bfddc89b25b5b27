"""What a fit concludes from its held-out queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.metrics.summary import Interval
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut
from ipad_rerank.rerankers.feature_reasoning.report import FitReport, Gain
from ipad_rerank.rerankers.feature_reasoning.sequences import TrainingSet


@pytest.mark.parametrize(
    ("sizes", "best"),
    [
        ({1000: (0.57, 0.684), 2600: (0.70, 0.723), 7000: (0.69, 0.707)}, 2600),  # not the largest gain
        ({1000: (0.74, 0.757), 2600: (0.73, 0.756), 7000: (0.73, 0.744)}, 2600),  # level: the larger
        ({500: (0.5, 0.6)}, 500),
    ],
)
def test_best_gallery_is_the_largest_of_those_with_the_best_map(sizes, best):
    unsure = Interval(0.1, -0.1, 0.3, 0.95, 40)
    assert FitReport("map", {}, {size: Gain(*means, unsure) for size, means in sizes.items()}).best_size == best


def test_a_report_says_what_each_measure_does():
    sure, unsure = Interval(0.02, 0.01, 0.03, 0.95, 40), Interval(0.02, -0.01, 0.05, 0.95, 40)
    gains = {"map": Gain(0.5, 0.52, sure), "precision@1": Gain(0.8, 0.82, unsure)}
    sizes = {100: Gain(0.5, 0.6, sure), 900: Gain(0.5, 0.44, Interval(-0.06, -0.1, 0.01, 0.95, 40))}
    lost, none = Gain(0.5, 0.4, Interval(-0.1, -0.2, -0.01, 0.95, 40)), Gain.of(torch.zeros(0), torch.zeros(0), 0)
    assert FitReport("map", gains, sizes).is_gain
    assert not FitReport("precision@1", gains, sizes).is_gain
    assert not FitReport("map", gains, sizes | {5000: lost}).is_gain
    nothing = FitReport("map", {"map": none}, {100: none})
    assert not nothing.is_gain
    assert nothing.summary == "MAP: no held-out query has a relevant item"
    assert nothing.to_dict()["queries"] == 0
    text = str(FitReport("map", gains, sizes))
    assert "Held out: MAP 50.00 -> 52.00, +2.00 (95 % interval +1.00 to +3.00) on 40 held-out queries" in text
    assert "  gallery 900: 50.00 -> 44.00, -6.00\n" in text
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
    assert held.best_blend(harmful) == 0.0, "at 0.25 the head still falls by more than two points"
    harmful.blend = 0.5
    assert held.blends(harmful) == ((20, 0.0), (32, 0.0), (51, 0.0), (79, 0.5))
    assert held.best_blend(shaken(scale=0.0, n_r=80)) == 0.25, "what changes nothing needs no weight"
    assert {blend for _, blend in held.blends(shaken(scale=0.0, n_r=80))} == {1.0}
    odd = shaken(scale=0.0, n_r=80, blend=0.1)
    assert {blend for _, blend in held.blends(odd)} == {0.1}
