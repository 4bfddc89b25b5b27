"""The closed-form step of Eq. 13 against autograd, and Gram space against feature space."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.rerankers.feature_reasoning.gradient_step import feature_step, gram_step

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
    step = feature_step(features, F.normalize(features, dim=-1), update, STEP)
    torch.testing.assert_close(step, expected, rtol=0, atol=1e-10)


def test_gram_space_agrees_with_feature_space_over_two_rounds(sequence):
    features, update = sequence
    cosine, norm = cosines(features), features.norm(dim=-1)
    for round_update in (update, -0.3 * update.transpose(1, 2) + 0.1):
        row, _ = gram_step(cosine, norm, round_update, STEP, rows=1)
        cosine, norm = gram_step(cosine, norm, round_update, STEP)
        features = feature_step(features, F.normalize(features, dim=-1), round_update, STEP)
        torch.testing.assert_close(cosine, cosines(features), rtol=0, atol=1e-10)
        torch.testing.assert_close(norm, features.norm(dim=-1), rtol=0, atol=1e-10)
        torch.testing.assert_close(row, cosines(features)[:, :1], rtol=0, atol=1e-10)


def test_a_step_of_the_query_alone_is_the_one_it_makes_among_all(sequence):
    features, update = sequence
    unit = F.normalize(features, dim=-1)
    moved = feature_step(features, unit, update, STEP)[:, :1]
    torch.testing.assert_close(feature_step(features[:, :1], unit, update, STEP), moved, rtol=0, atol=1e-10)
