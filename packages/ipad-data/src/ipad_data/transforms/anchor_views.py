"""Augmented anchors: further views of the anchors of a triplet batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ipad_data.transforms.augmentation import BatchAugmentation


@dataclass(frozen=True)
class AnchorViews:
    """Adds augmented views of the anchors to a triplet batch, as entries stacked after the negatives.

    Every triplet gets views of its own, also where two triplets share their anchor. All entries, views included, are then
    embedded in one pass; a view keeps attribute, value and image id of its anchor.

    Args:
        augment: How a view is made from its anchor. The images of the batch themselves are not changed.
        count: Views of each anchor; the paper's training has two.

    Shape:
        ``views(batch, generator)``: a batch of ``3T`` entries with N images becomes one of ``(3 + count) T`` entries with
        ``N + count T`` images, float in [0, 1]: anchors, positives, negatives, first views, second views, ...

    Raises:
        ValueError: ``count`` is less than 1; the entries are no triplets.

    References:
        Wan et al. 2025, section 4.1: augmentation of the anchors. The text does not say which, nor how many; two are in
        the public training code.
    """

    augment: BatchAugmentation
    count: int = 2

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

    def __call__(self, batch: dict[str, Tensor], generator: Generator | None = None) -> dict[str, Tensor]:
        """The batch with its views; other tensors of the batch stay as they are."""
        images, index = batch["images"], batch["image_index"]
        triplets, rest = divmod(len(index), 3)
        if rest:
            raise ValueError(f"batch must stack anchors, positives and negatives, got {len(index)} entries")
        views = self.augment(images[index[:triplets].repeat(self.count)], generator)
        images = images.to(views.dtype).div_(255) if images.dtype == torch.uint8 else images
        added = torch.arange(len(images), len(images) + len(views), device=index.device)
        names = ("attribute_ids", "value_ids", "image_ids")
        stacked = {name: torch.cat([batch[name], batch[name][:triplets].repeat(self.count)]) for name in names}
        return {**batch, **stacked, "images": torch.cat([images, views]), "image_index": torch.cat([index, added])}
