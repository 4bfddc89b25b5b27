"""Kept maps stand for their images, in every network."""

from __future__ import annotations

import pytest
import torch

from ipad_core import FeatureMaps, create_model
from ipad_core.backbones import Trunk

NETWORKS = ("ipad_tiny", "triplet_tiny", "csn_tiny")
TWO_STAGES = {"name": "resnet10t", "stage": [2, 3], "options": {"channels": [8, 8, 16, 16], "stem_width": 8}}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_kept_maps_give_what_their_images_give(name, images):
    model = create_model(name, num_attributes=3, trunk=TWO_STAGES).eval()
    ids, index = torch.tensor([0, 2, 1, 0, 1, 2]), torch.tensor([4, 4, 0, 1, 2, 3])
    with torch.no_grad():
        kept = model.keep(images)
        torch.testing.assert_close(model(kept, ids, index).embedding, model(images, ids, index).embedding)
    assert [tuple(stage.shape[1:]) for stage in kept.stages] == [(8, 12, 12), (16, 6, 6)]


def test_encode_takes_kept_maps_in_half_precision_and_in_parts(images):
    model = create_model("ipad_tiny", num_attributes=3, trunk=TWO_STAGES).eval()
    ids, index = torch.tensor([0, 2, 1]), torch.tensor([4, 0, 2])
    with torch.no_grad():
        kept = model.keep(images).to(torch.float16)
    assert torch.equal(kept.images, images)
    assert kept.stages[0].dtype == torch.float16
    actual = model.encode(kept, ids, index, batch_size=2)
    torch.testing.assert_close(actual.spatial, model.encode(images, ids, index).spatial, atol=0.02, rtol=0.02)


def test_a_selection_keeps_images_and_maps_together(images):
    kept = create_model("ipad_tiny", num_attributes=2).keep(images)
    part = kept[torch.tensor([3, 1])]
    assert len(part) == 2
    torch.testing.assert_close(part.images, images[[3, 1]])
    torch.testing.assert_close(part.stages[0], kept.stages[0][[3, 1]])


def test_one_image_is_taken_by_its_number(images):
    model = create_model("ipad_tiny", num_attributes=3, trunk=TWO_STAGES).eval()
    kept = model.keep(images)
    expected = model.encode(images[4:], attribute=1).embedding
    for one in (kept[4], kept[-1], list(kept)[4]):
        assert len(one) == 1
        torch.testing.assert_close(model.encode(one, attribute=1).embedding, expected)
    with pytest.raises(IndexError):
        kept[5]


def test_a_second_branch_says_that_it_needs_the_images(images):
    model = create_model("ipad_tiny", num_attributes=2).eval()
    kept = FeatureMaps(model.stage_maps(images))
    assert model(kept, torch.zeros(5, dtype=torch.int64), branches="spatial").semantic is None
    with pytest.raises(ValueError, match="images must be kept with the maps"):
        model(kept, torch.zeros(5, dtype=torch.int64))


def test_maps_and_images_must_be_of_one_number(images):
    with pytest.raises(ValueError, match=r"one number of images, got \[4, 5\]"):
        FeatureMaps([torch.zeros(4, 8, 6, 6)], images)
    with pytest.raises(ValueError, match="one number of images"):
        FeatureMaps([])


def test_a_trunk_says_whether_it_is_frozen_whole():
    options = {"channels": [8, 8, 16, 16], "stem_width": 8}
    whole = Trunk("resnet10t", stage=3, options=options, freeze="all").train()
    assert whole.is_frozen
    assert not any(parameter.requires_grad for parameter in whole.parameters())
    assert not any(module.training for module in whole.features.modules())
    assert not Trunk("resnet10t", stage=3, options=options, freeze=3).is_frozen
    with pytest.raises(ValueError, match=r"freeze must be within \[0, 4\].* or 'all', got 'most'"):
        Trunk("resnet10t", stage=3, options=options, freeze="most")
