from __future__ import annotations

import torch

from ipad_core.layers import QueryUpdate


def test_starts_near_the_same_query():
    layer, query = QueryUpdate(16), torch.randn(4, 16)
    assert (layer(query, torch.randn(4, 16), torch.rand(4, 2)) - query).abs().max() < 0.3


def test_matches_its_formula_and_hears_the_center():
    layer = QueryUpdate(4).double()
    query, features, center = (torch.randn(2, n, dtype=torch.float64) for n in (4, 4, 2))
    expected = query + layer.mlp(layer.norm(torch.cat([features, center], dim=1)))
    torch.testing.assert_close(layer(query, features, center), expected)
    assert (layer(query, features, -center) - expected).abs().max() > 0


def test_positions_row_by_row():
    positions = QueryUpdate.positions((2, 3), torch.float32, torch.device("cpu"))
    assert positions.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 1], [0, 1], [1, 1]]


def test_gradcheck():
    layer = QueryUpdate(3).double()
    inputs = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 3, 2)]
    assert torch.autograd.gradcheck(layer, inputs)
