from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ipad_core.layers import fuse_branches


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_sum_matches_loop_of_equation_21(beta):
    spatial, semantic = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    expected = []
    for a, b in zip(spatial, semantic, strict=True):
        total = math.sqrt(beta) * a / a.norm() + math.sqrt(1 - beta) * b / b.norm()
        expected.append(total / total.norm())
    torch.testing.assert_close(
        fuse_branches(spatial, semantic, beta).double(), torch.stack(expected), atol=1e-6, rtol=0
    )


def test_hand_worked():
    fused = fuse_branches(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.1]]), beta=0.36)
    torch.testing.assert_close(fused, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("beta", [0.0, 0.4, 0.75])
def test_cosine_of_concatenated_is_the_weighted_cosine(beta):
    spatial, semantic = torch.randn(2, 8), torch.randn(2, 8)
    first, second = fuse_branches(spatial, semantic, beta, "concat")
    expected = beta * F.cosine_similarity(*spatial, dim=0) + (1 - beta) * F.cosine_similarity(*semantic, dim=0)
    torch.testing.assert_close(first @ second, expected)


@pytest.mark.parametrize("how", ["sum", "concat"])
def test_unit_length_whatever_the_scales(how):
    spatial, semantic = torch.randn(5, 8), torch.randn(5, 8)
    fused = fuse_branches(1e3 * spatial, 1e-3 * semantic, 0.4, how)
    torch.testing.assert_close(fused, fuse_branches(spatial, semantic, 0.4, how))
    torch.testing.assert_close(fused.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("how", ["sum", "concat"])
def test_zero_and_opposite_vectors_are_finite(how):
    v = torch.randn(2, 4)
    assert fuse_branches(torch.zeros(2, 4), torch.zeros(2, 4), 0.4, how).isfinite().all()
    assert fuse_branches(v, -v, 0.5, how).isfinite().all()


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_rejects_beta(beta):
    with pytest.raises(ValueError, match=r"beta must be within \[0, 1\]"):
        fuse_branches(torch.ones(1, 2), torch.ones(1, 2), beta)


def test_rejects_fusion():
    with pytest.raises(ValueError, match="fusion must be one of sum, concat, got 'mean'"):
        fuse_branches(torch.ones(1, 2), torch.ones(1, 2), 0.5, "mean")


@pytest.mark.parametrize("how", ["sum", "concat"])
def test_gradcheck(how):
    inputs = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: fuse_branches(a, b, 0.4, how), inputs)
