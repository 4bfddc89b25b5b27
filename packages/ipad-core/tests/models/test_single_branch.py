"""What tells the single-branch networks apart."""

from __future__ import annotations

import pytest
import torch

from ipad_core import create_model

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_triplet_does_not_see_the_attribute(small_trunk):
    model = create_model("triplet", num_attributes=2, embed_dim=8, **small_trunk).eval()
    first, second = model(IMAGES[:1], torch.tensor([0, 1]), torch.tensor([0, 0])).embedding
    assert torch.equal(first, second)


def test_csn_masks_the_shared_embedding(small_trunk):
    model = create_model("csn", num_attributes=2, embed_dim=8, **small_trunk).eval()
    output = model(IMAGES, torch.tensor([0, 1]), torch.tensor([1, 1])).embedding
    masked = model.pooled(IMAGES)[1] * model.mask.table.weight.clamp(min=0)
    torch.testing.assert_close(output, masked / masked.norm(dim=1, keepdim=True))
    assert (output[0] - output[1]).abs().max() > 1e-3


def test_classifier_answers_centered_logits_of_the_asked_attribute(small_trunk):
    model = create_model("attribute_classifier", num_attributes=2, num_values=[2, 3], **small_trunk).eval()
    logits = model.logits(IMAGES)
    assert logits.shape == (2, 5)
    assert model.value_attribute_ids.tolist() == [0, 0, 1, 1, 1]
    embedding = model(IMAGES, torch.tensor([1, 0])).embedding
    centered = logits[0, 2:] - logits[0, 2:].mean()
    torch.testing.assert_close(embedding[0], torch.cat([torch.zeros(2), centered / centered.norm()]))
    assert (embedding[1, 2:] == 0).all()


def test_classifier_on_a_map_that_the_stride_does_not_divide(small_trunk):
    options = {**small_trunk, "image_size": 40}
    model = create_model("attribute_classifier", num_attributes=1, num_values=[2], **options)
    assert model.logits(torch.rand(2, 3, 40, 40)).shape == (2, 2)


def test_classifier_wants_a_number_of_values_per_attribute(small_trunk):
    with pytest.raises(ValueError, match="num_values must have 3 entries, one per attribute, got 2"):
        create_model("attribute_classifier", num_attributes=3, num_values=[2, 2], **small_trunk)
