"""A search and reasoners that several tests re-rank with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import FeatureReasoning, rank


@pytest.fixture
def shaken():
    """``shaken(scale=0.3, seed=0, **config)``: a reasoner that does something, without a fit."""

    def make(scale: float = 0.3, seed: int = 0, **config) -> FeatureReasoning:
        reasoner = FeatureReasoning(**({"n_r": 20} | config))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            reasoner.network.last.weight.normal_(0, scale, generator=generator)
            reasoner.network.last.bias.normal_(0, scale, generator=generator)
        return reasoner.eval()

    return make


@pytest.fixture
def search():
    """13 queries, a gallery of 150, and the ranking of its best 60."""
    query, gallery = clusters(13, seed=1), clusters(150, seed=2)
    return query, gallery, rank(query, gallery, k=60)


def clusters(count: int, seed: int, dim: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=count)
    centers = np.random.default_rng(99).normal(size=(4, dim))
    return (centers[labels] + 0.5 * dim**0.5 * rng.normal(size=(count, dim))).astype(np.float32)
