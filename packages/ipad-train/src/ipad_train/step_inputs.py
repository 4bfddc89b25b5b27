"""From a batch of a loader to what a step trains on: augmented images, or a frozen trunk's kept maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ipad_core import FeatureMaps
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.kept_maps import KeptMaps

Batch = dict[str, torch.Tensor]
StepInputs = Callable[[Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class AugmentedImages:
    """Images changed at random on their device; in triplet batches also further views of the anchors."""

    augmentation: BatchAugmentation
    anchor_views: AnchorViews | None = None

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with augmented ``images``; a function of the batch and the generator's state."""
        if self.anchor_views is not None:
            batch = self.anchor_views(batch, generator)
        return {**batch, "images": self.augmentation(batch["images"], generator)}


@dataclass(frozen=True)
class MapsOfImages:
    """A frozen trunk's kept maps in place of the images; where images come with the batch they turn as their maps do.

    Args:
        maps: Of the training split, with mirror images.
        flip: Probability of a mirror image, per image.
    """

    maps: KeptMaps
    flip: float

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with :class:`FeatureMaps` as ``images``."""
        device = batch["image_index"].device
        mirrored = torch.rand(len(batch["rows"]), generator=generator) < self.flip
        stages = [stage.to(device, non_blocking=True) for stage in self.maps.read(batch["rows"], mirrored)]
        images = batch.get("images")
        if images is not None:
            images = torch.where(mirrored.to(device)[:, None, None, None], images.flip(-1), images)
        return {**batch, "images": FeatureMaps(stages, images)}
