"""From a batch of a loader to what a step trains on: augmented images, or a frozen trunk's kept maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ipad_core import FeatureMaps
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.kept_crops import KeptCrops
from ipad_train.map_files import KeptMaps

Batch = dict[str, Any]


@dataclass(frozen=True)
class StepSeed:
    """Where the randomness of a micro-batch comes from.

    Args:
        stage: Seed of the stage.
        step: Step of the stage.
        part: Which part of the step's batch it is: micro-batch x processes + rank.
    """

    stage: int
    step: int
    part: int = 0

    def of_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """``(N,)`` uniform float32 numbers in [0, 1), one for each row of the dataset, on its device.

        A function of stage, step and row. However a batch is divided over processes, an image has the same number.
        """
        key = _mixed(torch.tensor(self.stage * 1_000_003 + self.step)).item()
        return (_mixed(rows + key) & (2**24 - 1)).float() / 2**24

    def generator(self) -> torch.Generator:
        """For what is drawn for a micro-batch as a whole; on the CPU, as a device would have to be waited for."""
        return torch.Generator().manual_seed((self.stage * 1_000_003 + self.step) * 4_099 + self.part)


def _mixed(numbers: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64 on int64 numbers, which wrap around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        high = (numbers >> shift) & ((1 << (64 - shift)) - 1)  # a shift of the bits, without the sign
        numbers = (numbers ^ high) * factor
    return numbers


StepInputs = Callable[[Batch, StepSeed], Batch]


@dataclass(frozen=True)
class AugmentedImages:
    """Images changed at random on their device; in triplet batches also further views of the anchors.

    Flips depend on image and step only, not on the number of processes. What ``augmentation`` and ``anchor_views`` draw is
    drawn for each micro-batch of each process.

    Args:
        flip: Probability of a mirror image, per image.
        augmentation: Further changes.
        anchor_views: Of triplet batches.
    """

    flip: float
    augmentation: BatchAugmentation
    anchor_views: AnchorViews | None = None

    def __call__(self, batch: Batch, seed: StepSeed) -> Batch:
        """The batch with augmented ``images``; a function of the batch and the seed."""
        generator = seed.generator()
        draws = seed.of_rows(batch["rows"])
        if self.anchor_views is not None:
            batch = self.anchor_views(batch, generator)
            views = torch.rand(len(batch["images"]) - len(draws), generator=generator)
            draws = torch.cat([draws, views.to(draws.device)])
        images = batch["images"]
        if self.flip:
            index = torch.arange(len(images), device=images.device) + len(images) * (draws < self.flip)
            images = torch.cat([images, images.flip(-1)]).index_select(0, index)
        return {**batch, "images": self.augmentation(images, generator)}


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

    def __call__(self, batch: Batch, seed: StepSeed) -> Batch:
        """The batch with :class:`FeatureMaps` as ``images``, and the maps of each entry's crop as ``crops``.

        Where pixels come with the batch they turn as their maps do.
        """
        device = batch["image_index"].device
        rows, index = batch["rows"].cpu(), batch["image_index"].cpu()
        mirrored = seed.of_rows(rows) < (0.0 if self.crops is not None else self.flip)
        stages = [stage.to(device, non_blocking=True) for stage in self.maps.read(rows, mirrored)]
        images = batch.get("images")
        if images is not None:
            images = torch.where(mirrored.to(device)[:, None, None, None], images.flip(-1), images)
        prepared = {**batch, "images": FeatureMaps(stages, images)}
        if self.crops is not None:
            cut = self.crops.read(rows[index], batch["attribute_ids"].cpu())
            prepared["crops"] = [stage.to(device, non_blocking=True).float() for stage in cut]
        return prepared
