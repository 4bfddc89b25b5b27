"""Batches: from the plan of a sampler to tensors, in the workers of a ``DataLoader``."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils import data

from ipad_data.errors import ImageDecodeError
from ipad_data.samplers.plan import BatchPlan
from ipad_data.stored_images import with_stored_images
from ipad_data.transforms.decode import FITS, Fit, decode_image

ON_ERROR = ("raise", "skip")
_SHOWN = 5


class BatchDataset(data.Dataset):
    """Dataset whose items are whole batches, made where they are fetched: decoding happens in the loader's workers.

    Args:
        dataset: Dataset of this package.
        detail_size: Side S of the images in pixels.
        on_error: ``raise`` stops at an image that cannot be decoded; ``skip`` leaves out its entries, in triplet
            batches the triplets that it is in, and counts it. A batch of which nothing is left is an error: nothing can
            be learned from it, and on several processes one that sat it out would leave the others waiting.
        fit: ``squash`` stretches images to the square, ``letterbox`` pads them with white.
        with_images: Decode the images. Without, a batch has no ``images``, only what it says of them.

    Shape:
        ``batch = batches[plan]``: ``images (N, 3, S, S)`` uint8; ``rows (N,)`` int64, their rows; ``image_index``,
        ``attribute_ids``, ``value_ids``, ``image_ids`` ``(B,)`` int64; ``skipped`` scalar int64, images left out of this
        batch.

    Raises:
        ValueError: an argument outside its choices; when fetched, ``ImageDecodeError`` (a ``ValueError``) naming the
            file or row, or the first few where ``skip`` leaves nothing of a batch.

    Example:
        >>> batches = BatchDataset(train, 128)  # doctest: +SKIP
        >>> DataLoader(batches, sampler=plans(sampler, 0), batch_size=None, num_workers=2)  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: Dataset,
        detail_size: int,
        on_error: str = "raise",
        fit: Fit = "squash",
        with_images: bool = True,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        if fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
        if detail_size < 1:
            raise ValueError(f"detail_size must be at least 1, got {detail_size}")
        self._columns = with_stored_images(dataset.select_columns(["image", "image_id"]).with_format(None))
        self.detail_size, self.on_error, self.fit, self.with_images = detail_size, on_error, fit, with_images

    def __getitem__(self, plan: BatchPlan) -> dict[str, Tensor]:
        if not self.with_images:
            return self._without_images(plan)
        stored = self._columns[plan.rows.tolist()]
        images, problems = self._decode(stored["image"], plan.rows)
        broken = np.isin(np.arange(len(images)), list(problems))
        image_ids = np.asarray(stored["image_id"], dtype=np.int64)
        kept = _kept_entries(plan, broken)
        if problems and not kept.any():
            shown = "".join(f"\n  {problem}" for problem in list(problems.values())[:_SHOWN])
            raise ImageDecodeError(
                f"{len(problems)} of a batch's {len(images)} images cannot be read, and nothing of it is left:{shown}"
            )
        position = np.cumsum(~broken) - 1
        index = plan.image_index[kept]
        return {
            "images": torch.from_numpy(images[~broken] if broken.any() else images),
            "rows": torch.from_numpy(np.asarray(plan.rows, dtype=np.int64)[~broken]),
            "image_index": torch.from_numpy(position[index]),
            "attribute_ids": torch.from_numpy(plan.attribute_ids[kept]),
            "value_ids": torch.from_numpy(plan.value_ids[kept]),
            "image_ids": torch.from_numpy(image_ids[index]),
            "skipped": torch.tensor(int(broken.sum())),
        }

    def _without_images(self, plan: BatchPlan) -> dict[str, Tensor]:
        index, rows = plan.image_index, np.asarray(plan.rows, dtype=np.int64)
        return {
            "rows": torch.from_numpy(rows),
            "image_index": torch.from_numpy(index),
            "attribute_ids": torch.from_numpy(plan.attribute_ids),
            "value_ids": torch.from_numpy(plan.value_ids),
            "image_ids": torch.from_numpy(self._image_ids[rows[index]]),
            "skipped": torch.tensor(0),
        }

    @cached_property
    def _image_ids(self) -> np.ndarray:
        return np.asarray(self._columns["image_id"], dtype=np.int64)

    def _decode(self, stored: list[dict], rows: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Images ``(N, 3, S, S)``, and why those at some positions cannot be read."""
        images = np.zeros((len(stored), 3, self.detail_size, self.detail_size), dtype=np.uint8)
        problems: dict[int, str] = {}
        for i, image in enumerate(stored):
            if image is None:
                raise ImageDecodeError(f"row {rows[i]}: has labels but no image (missing_images='label_only')")
            source = image["path"] if image["bytes"] is None else image["bytes"]
            try:
                name = image["path"] or f"row {rows[i]}"
                images[i] = decode_image(source, self.detail_size, self.fit, name).transpose(2, 0, 1)
            except ImageDecodeError as error:
                if self.on_error == "raise":
                    raise
                problems[i] = str(error)
        return images, problems


def _kept_entries(plan: BatchPlan, broken: np.ndarray) -> np.ndarray:
    """``(B,)`` whether an entry stays: none of the images that belong with it is broken."""
    whole = ~broken[plan.image_index].reshape(plan.parts, -1).any(axis=0)
    return np.tile(whole, plan.parts)
