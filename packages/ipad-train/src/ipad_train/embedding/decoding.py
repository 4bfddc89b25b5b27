"""Photos to tensors in the workers of a loader. What cannot be read comes back as a reason, not as a worker's traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ipad_data.errors import ImageDecodeError
from ipad_data.transforms.decode import decode_image
from ipad_train.catalogue.errors import PhotoError
from ipad_train.embedding.photos import Photos


class Decoded(NamedTuple):
    """Photos of one batch.

    Attributes:
        images: ``(N, 3, S, S)`` uint8; None where images are not asked for.
        photos: ``(N,)`` int64, which photos these are.
        problems: Those of the batch that cannot be read, each with the reason.
    """

    images: torch.Tensor | None
    photos: torch.Tensor
    problems: list[tuple[int, str]]


class PhotoBatches(Dataset):
    """Batches by the range of their photos.

    Args:
        photos: Where they come from.
        side: Of the square images, px.
        with_images: Whether to decode them at all.
    """

    def __init__(self, photos: Photos, side: int, with_images: bool = True) -> None:
        self.photos, self.side, self.with_images = photos, side, with_images

    def __getitem__(self, batch: range) -> Decoded:
        if not self.with_images:
            return Decoded(None, torch.tensor(list(batch)), [])
        images = np.empty((len(batch), 3, self.side, self.side), dtype=np.uint8)
        read, problems = [], []
        for photo in batch:
            try:
                decoded = decode_image(self.photos.stored(photo), self.side, name=self.photos.name(photo))
            except (ImageDecodeError, PhotoError, OSError) as error:
                problems.append((photo, str(error)))
            else:
                images[len(read)] = decoded.transpose(2, 0, 1)
                read.append(photo)
        return Decoded(torch.from_numpy(images[: len(read)]), torch.tensor(read, dtype=torch.int64), problems)


def photo_loader(batches: PhotoBatches, order: Sequence[range], num_workers: int, pin_memory: bool) -> DataLoader:
    """The batches in the order given, decoded ahead by so many workers."""
    workers = num_workers if batches.with_images else 0
    return DataLoader(
        batches,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory and batches.with_images,
        prefetch_factor=2 if workers else None,
    )
