"""The entries of a batch: which attribute of which image."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_core.feature_maps import FeatureMaps


def check_entries(
    images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor | None, num_attributes: int
) -> Tensor:
    """The image index, after checking the shapes, and on a CPU the numbers.

    Elsewhere nobody looks at the numbers, since that would wait for the device; nor in a graph that is being traced.

    Raises:
        ValueError: shapes or types that do not fit; on a CPU, an attribute or an image out of range.
    """
    if attribute_ids.ndim != 1:
        raise ValueError(f"attribute_ids must be (B,), got {tuple(attribute_ids.shape)}")
    count = images.shape[0]  # len() would fix the number in a traced graph
    _check_ids("attribute_ids", attribute_ids, num_attributes)
    if image_index is None:
        entries = attribute_ids.shape[0]
        if entries != count:
            raise ValueError(
                f"without image_index every image has one entry: got {count} images and {entries} attribute_ids"
            )
        return torch.arange(count, device=images.device)
    if image_index.shape != attribute_ids.shape:
        raise ValueError(f"image_index must be {tuple(attribute_ids.shape)}, got {tuple(image_index.shape)}")
    _check_ids("image_index", image_index, count)
    return image_index


def check_within(name: str, ids: Tensor, count: int) -> None:
    """Raise a ValueError that names the argument if an id is not within [0, count). This waits for the ids' device."""
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= count:
        raise ValueError(f"{name} must be within [0, {count}), got {low} to {high}")


def _check_ids(name: str, ids: Tensor, count: int) -> None:
    if ids.dtype not in (torch.int64, torch.int32):  # bytes and truth values would be taken for a mask
        raise ValueError(f"{name} must be int64 or int32, got {ids.dtype}")
    if ids.device.type == "cpu" and not torch.compiler.is_compiling() and ids.numel():
        check_within(name, ids, count)
