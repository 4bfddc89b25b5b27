from __future__ import annotations

import pytest
import torch

from ipad_data import AnchorViews, BatchAugmentation, BatchDataset, EntryTable, TripletSampler

STRONG = BatchAugmentation(flip=0.5, perspective=0.2, brightness=0.3)


@pytest.fixture
def batch(rendered):
    sampler = TripletSampler(EntryTable.from_dataset(rendered["train"], "train"), 6, seed=2)
    return BatchDataset(rendered["train"], 24)[sampler.plan(0, 0)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_views_are_entries_after_the_negatives(batch, count):
    found = AnchorViews(STRONG, count)(batch, seeded())
    num_images = len(batch["images"])
    assert found["images"].shape == (num_images + 6 * count, 3, 24, 24)
    torch.testing.assert_close(found["images"][:num_images], batch["images"] / 255)  # the others are as they were
    for name in ("attribute_ids", "value_ids", "image_ids", "image_index"):
        assert found[name][:18].tolist() == batch[name].tolist()
    for name in ("attribute_ids", "value_ids", "image_ids"):
        assert found[name][18:].tolist() == batch[name][:6].tolist() * count
    assert found["image_index"][18:].tolist() == list(range(num_images, num_images + 6 * count))
    assert found["skipped"] == batch["skipped"]


def test_each_view_is_its_anchor_augmented_on_its_own(batch):
    batch["image_index"][:6] = 0  # six triplets of one anchor
    found = AnchorViews(STRONG, 2)(batch, seeded())
    views = found["images"][found["image_index"][18:]]
    torch.testing.assert_close(views, STRONG(batch["images"][:1].expand(12, -1, -1, -1), seeded()))
    assert all((views[i] != views[j]).any() for i in range(12) for j in range(i))


def test_a_view_that_changes_nothing_is_its_anchor(batch):
    found = AnchorViews(BatchAugmentation(flip=0), 2)(batch)
    images = found["images"][found["image_index"]]
    torch.testing.assert_close(images[18:24], images[:6])
    torch.testing.assert_close(images[24:], images[:6])


def test_the_batch_itself_is_left_alone(batch):
    before = {name: tensor.clone() for name, tensor in batch.items()}
    AnchorViews(STRONG)(batch, seeded())
    assert batch.keys() == before.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(batch[name], tensor)


def test_rejects_other_batches_and_counts(batch):
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        AnchorViews(STRONG, 0)
    with pytest.raises(ValueError, match="batch must stack anchors, positives and negatives, got 17 entries"):
        AnchorViews(STRONG)({**batch, "image_index": batch["image_index"][:17]})
