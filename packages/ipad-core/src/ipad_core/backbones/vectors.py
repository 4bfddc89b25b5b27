"""Embeddings that are at hand already, in the place of a trunk: any head may be put on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ipad_core.weights import WeightsRecord


class Vectors(nn.Module):
    """Takes the place of a :class:`Trunk` for vectors of your own, e.g. of a model that is served elsewhere.

    There is no network in it: a vector is a map of one cell, given as ``FeatureMaps.from_vectors(vectors)``.

    Args:
        dim: Numbers of a vector.

    Raises:
        ValueError: ``dim`` is no positive whole number; images are given, which it cannot read.
    """

    mean: Tensor
    std: Tensor
    is_frozen = True
    stride = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a positive whole number, got {dim!r}")
        self.num_features, self.stage = dim, [0]
        self.started_from: WeightsRecord = {
            "network": "vectors",
            "tag": None,
            "source": "vectors",
            "sha256": None,
            "license": None,
        }
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        raise ValueError(
            f"this network reads vectors of {self.num_features} numbers, not images; give FeatureMaps.from_vectors(vectors)"
        )

    forward = stage_maps

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """The vectors as ``(N, C, 1, 1)``.

        Raises:
            ValueError: they are of another width.
        """
        if len(maps) != 1 or tuple(maps[0].shape[1:]) != (self.num_features, 1, 1):
            shapes = [tuple(part.shape) for part in maps]
            raise ValueError(
                f"vectors must be (N, {self.num_features}), as maps (N, {self.num_features}, 1, 1), got {shapes}"
            )
        return maps[0]

    def take_over(self, other: nn.Module) -> None:
        """Vectors have no weights to take over.

        Raises:
            RuntimeError: the other is a network.
        """
        if not isinstance(other, Vectors):
            raise RuntimeError("vectors take over no network's weights")
