"""Whether an attribute's embeddings have become the same."""

from __future__ import annotations

import itertools

import pytest
import torch

from ipad_train.collapse import collapse_warnings, spread
from ipad_train.config import StageConfig
from ipad_train.stage_run import StageRun


def naive_spread(embeddings, attribute_ids, attribute):
    """From the definitions, pair by pair."""
    mine = [
        vector / vector.norm() for vector, owner in zip(embeddings, attribute_ids, strict=True) if owner == attribute
    ]
    cosines = [float(one @ other) for one, other in itertools.permutations(mine, 2)]
    stacked = torch.stack(mine)
    covariance = (stacked - stacked.mean(0)).T @ (stacked - stacked.mean(0)) / len(mine)
    return sum(cosines) / len(cosines), float(covariance.trace() ** 2 / (covariance @ covariance).trace())


def test_matches_a_loop_over_pairs():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 6, generator=generator, dtype=torch.float64) + 0.5
    ids = torch.randint(0, 3, (40,), generator=generator)
    found = spread(embeddings, ids, 3)
    for attribute in range(3):
        cosine, rank = naive_spread(embeddings, ids, attribute)
        assert float(found[f"mean_cosine/{attribute}"]) == pytest.approx(cosine, abs=1e-5)
        assert float(found[f"effective_rank/{attribute}"]) == pytest.approx(rank, rel=1e-3)


def test_by_hand():
    """Four directions, each with its opposite, spread over four dimensions; equal vectors have collapsed."""
    axes = torch.cat([torch.eye(4), -torch.eye(4)])
    found = spread(torch.cat([axes, torch.ones(3, 4)]), torch.tensor([0] * 8 + [1] * 3), 4)
    assert float(found["effective_rank/0"]) == pytest.approx(4.0)
    assert float(found["mean_cosine/0"]) == pytest.approx(-1 / 7)
    assert float(found["mean_cosine/1"]) == pytest.approx(1.0)
    assert all(found[f"{kind}/{lone}"].isnan() for kind in ("mean_cosine", "effective_rank") for lone in (2, 3))


def test_no_gradient_and_any_length():
    embeddings = torch.randn(6, 3, requires_grad=True)
    found = spread(embeddings, torch.zeros(6, dtype=torch.int64), 1)
    scaled = spread(7 * embeddings, torch.zeros(6, dtype=torch.int64), 1)
    assert not found["mean_cosine/0"].requires_grad
    torch.testing.assert_close(scaled["mean_cosine/0"], found["mean_cosine/0"])


def test_a_warning_names_the_attribute_once_and_what_to_try():
    run = StageRun("stage1", StageConfig(steps=1000), None, None, None, None, 0, attributes=("sleeve", "neck"))
    means = {"mean_cosine/sleeve": 0.999, "mean_cosine/neck": 0.5}
    run.step = 199  # young networks see all images alike
    assert collapse_warnings(run, means) == []
    run.step = 200
    (line,) = collapse_warnings(run, means)
    assert "the embeddings of sleeve have collapsed at step 200 of stage1" in line
    assert "a lower stage1.learning_rate" in line
    assert run.health.collapsed == ["sleeve"]
    assert collapse_warnings(run, means) == []
    (line,) = collapse_warnings(run, {**means, "mean_cosine/neck": 0.995})
    assert "the embeddings of neck" in line
