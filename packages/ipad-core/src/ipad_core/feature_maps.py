"""What a trunk made of images, kept: it can be asked for other attributes without running the trunk again."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor


class FeatureMaps:
    """The maps of a trunk's stages for N images. Every network takes them in place of the images.

    Args:
        stages: One map ``(N, C, h, w)`` for each stage that the trunk reads, in its order, before they are joined.
        images: The images themselves, ``(N, 3, H, W)``; only a second branch needs them, to cut its crops from.

    Raises:
        ValueError: no map, or maps or images of different numbers.

    Example:
        >>> kept = model.keep(images)  # doctest: +SKIP
        >>> collar = model.encode(kept, torch.zeros(len(kept), dtype=torch.int64))  # doctest: +SKIP
    """

    def __init__(self, stages: Sequence[Tensor], images: Tensor | None = None) -> None:
        counts = [
            part.shape[0] for part in [*stages, *([] if images is None else [images])]
        ]  # len() is fixed by tracing
        if not stages or any(count != counts[0] for count in counts[1:]):
            raise ValueError(f"stages and images must be of one number of images, got {sorted(set(counts))}")
        self.stages, self.images = list(stages), images

    @classmethod
    def from_vectors(cls, vectors: Any) -> FeatureMaps:
        """``(N, C)`` vectors, tensor or array, for a network whose trunk is ``vectors``.

        Raises:
            ValueError: another shape, or no numbers.

        Example:
            >>> model = create_model("csn", num_attributes=2, trunk={"name": "vectors", "options": {"dim": 512}})
            >>> model.encode(FeatureMaps.from_vectors(torch.rand(3, 512)), attributes="all").embedding.shape
            torch.Size([6, 1024])
        """
        tensor = torch.as_tensor(vectors)
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise ValueError(f"vectors must be (N, C) floats, got {tensor.dtype} {tuple(tensor.shape)}")
        return cls([tensor[:, :, None, None]])

    def __len__(self) -> int:
        return len(self.stages[0])

    def __getitem__(self, index: Any) -> FeatureMaps:
        """Those of some images, given as a slice, a tensor or a list of numbers; or of one, by its number."""
        if isinstance(index, Integral):
            position = range(len(self))[index]  # an IndexError ends a loop
            index = slice(position, position + 1)
        return FeatureMaps(
            [stage[index] for stage in self.stages], None if self.images is None else self.images[index]
        )

    @property
    def shape(self) -> torch.Size:
        """``(N,)``: the number of images, where a network asks a tensor of images for it."""
        return self.stages[0].shape[:1]

    @property
    def device(self) -> torch.device:
        """Where the maps lie."""
        return self.stages[0].device

    def to(self, *args: Any, **options: Any) -> FeatureMaps:
        """As :meth:`torch.Tensor.to`; a dtype applies to the maps and leaves the images as they are."""
        moved = [stage.to(*args, **options) for stage in self.stages]
        images = None if self.images is None else self.images.to(moved[0].device)
        return FeatureMaps(moved, images)
