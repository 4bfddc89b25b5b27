"""The entries of a batch: which attribute of which image."""

from __future__ import annotations

import torch
from torch import Tensor

from ipad_core.feature_maps import FeatureMaps


def check_entries(images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor | None) -> Tensor:
    """The image index, after checking the shapes.

    Raises:
        ValueError: shapes that do not fit.
    """
    if attribute_ids.ndim != 1:
        raise ValueError(f"attribute_ids must be (B,), got {tuple(attribute_ids.shape)}")
    if image_index is None:
        count, entries = images.shape[0], attribute_ids.shape[0]  # len() would fix the number in a traced graph
        if entries != count:
            raise ValueError(
                f"without image_index every image has one entry: got {count} images and {entries} attribute_ids"
            )
        return torch.arange(count, device=images.device)
    if image_index.shape != attribute_ids.shape:
        raise ValueError(f"image_index must be {tuple(attribute_ids.shape)}, got {tuple(image_index.shape)}")
    return image_index
