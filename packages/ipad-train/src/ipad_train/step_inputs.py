"""From a batch of a loader to what a step trains on: augmented images, or a frozen trunk's kept maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ipad_core import FeatureMaps
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.kept_crops import KeptCrops
from ipad_train.kept_maps import KeptMaps

Batch = dict[str, Any]
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
    """A frozen trunk's kept maps in place of the images, at random those of the mirror image.

    Args:
        maps: Of the training split, with mirror images.
        flip: Probability of a mirror image, per image; with ``crops`` nothing is mirrored.
        crops: Kept crops of the split, for a second branch that reads nothing else.
    """

    maps: KeptMaps
    flip: float
    crops: KeptCrops | None = None

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with :class:`FeatureMaps` as ``images``, and the maps of each entry's crop as ``crops``.

        Where pixels come with the batch they turn as their maps do.
        """
        device = batch["image_index"].device
        rows, index = batch["rows"].cpu(), batch["image_index"].cpu()
        mirrored = torch.rand(len(rows), generator=generator) < (0.0 if self.crops is not None else self.flip)
        stages = [stage.to(device, non_blocking=True) for stage in self.maps.read(rows, mirrored)]
        images = batch.get("images")
        if images is not None:
            images = torch.where(mirrored.to(device)[:, None, None, None], images.flip(-1), images)
        prepared = {**batch, "images": FeatureMaps(stages, images)}
        if self.crops is not None:
            cut = self.crops.read(rows[index], batch["attribute_ids"].cpu())
            prepared["crops"] = [stage.to(device, non_blocking=True).float() for stage in cut]
        return prepared
