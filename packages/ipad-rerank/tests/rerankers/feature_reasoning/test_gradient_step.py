"""The closed-form step of Eq. 13 against autograd, and Gram space against feature space."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.rerankers.feature_reasoning.gradient_step import (
    Gram,
    feature_step,
    gram_step,
    gram_step_query_row,
    query_step,
)

STEP = 1.7


@pytest.fixture
def sequence():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 9, 5, dtype=torch.float64, generator=generator)
    return features, torch.randn(2, 9, 9, dtype=torch.float64, generator=generator)


def cosines(features):
    unit = F.normalize(features, dim=-1)
    return unit @ unit.transpose(1, 2)


def test_step_is_the_gradient_of_the_squared_distance(sequence):
    features, update = sequence
    features = features.requires_grad_()
    target = (cosines(features) + update).detach()
    (gradient,) = torch.autograd.grad(0.5 * (target - cosines(features)).square().sum(), features)
    expected = features - STEP / features.shape[1] * gradient
    torch.testing.assert_close(feature_step(features, update, STEP), expected, rtol=0, atol=1e-10)


def test_gram_space_agrees_with_feature_space_over_two_rounds(sequence):
    features, update = sequence
    gram = Gram(cosines(features), features.norm(dim=-1))
    for round_update in (update, -0.3 * update.transpose(1, 2) + 0.1):
        row = gram_step_query_row(gram, round_update, STEP)
        gram = gram_step(gram, round_update, STEP)
        features = feature_step(features, round_update, STEP)
        torch.testing.assert_close(gram.cosine, cosines(features), rtol=0, atol=1e-10)
        torch.testing.assert_close(gram.norm, features.norm(dim=-1), rtol=0, atol=1e-10)
        torch.testing.assert_close(row, cosines(features)[:, 0], rtol=0, atol=1e-10)


def test_query_step_moves_the_query_as_the_full_step_would(sequence):
    features, update = sequence
    unit = F.normalize(features, dim=-1)
    moved = unit.clone()
    moved[:, 0] = feature_step(unit, update, STEP)[:, 0]
    pull = (update + update.transpose(1, 2))[:, 0]
    cosine = cosines(unit)
    row, norm = query_step(cosine, cosine[:, 0], torch.ones(2, dtype=torch.float64), pull, STEP)
    torch.testing.assert_close(row, cosines(moved)[:, 0], rtol=0, atol=1e-10)
    torch.testing.assert_close(norm, moved[:, 0].norm(dim=-1), rtol=0, atol=1e-10)
