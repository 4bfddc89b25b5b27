from __future__ import annotations

import pytest
import torch

from ipad_rerank.rerankers.guard import Gate
from ipad_rerank.rerankers.guard.gate import BINS, bin_names, bin_of, worst_bin


def test_a_gate_learns_where_the_gain_is():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(600, 3, generator=generator, dtype=torch.float64)
    gains = torch.where(features[:, 1] > 0, 0.1, -0.1)
    relevant = torch.where(features[:, 1] > 0, 100, 5)
    gate, opens = Gate.fit(features, gains, relevant)
    assert float((gate.opens(features) == (features[:, 1] > 0)).double().mean()) > 0.95
    assert float((opens == (features[:, 1] > 0)).double().mean()) > 0.9
    assert not bool(Gate.fit(features, -gains.abs(), relevant)[0].opens(features).any())
    assert bool(Gate.fit(features, gains.abs(), relevant)[0].opens(features).all())


def test_the_worst_group_is_the_one_of_the_least_gain_less_its_error():
    gains = torch.tensor([0.1] * 10 + [0.02, 0.04] * 5 + [-1.0] * 4)
    relevant = torch.tensor([300] * 10 + [20] * 10 + [3] * 4)  # four queries are too few to judge by
    error = gains[10:20].std() / 10**0.5
    assert worst_bin(gains, relevant) == pytest.approx(float(0.03 - error))


def test_bins():
    assert bin_names() == ["1-9", "10-49", "50-199", "200+"]
    assert len(BINS) == 4
    assert bin_of(torch.tensor([0, 1, 9, 10, 49, 50, 199, 200, 9999])).tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3]


def test_queries_that_count_more_decide():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    gains = torch.where(torch.arange(400) % 2 == 0, 0.1, -0.12)  # nothing that the features show
    relevant = torch.full((400,), 3)
    relevant[:200] = 60
    helped = torch.where(gains > 0, 1.0, 0.1)
    assert float(Gate.fit(features, gains, relevant, helped)[0].bias) > 0
    assert float(Gate.fit(features, gains, relevant, 1.1 - helped)[0].bias) < 0
    twice = Gate.fit(features, gains, relevant, 2 * torch.ones(400))[0]
    assert twice == Gate.fit(features, gains, relevant)[0]
