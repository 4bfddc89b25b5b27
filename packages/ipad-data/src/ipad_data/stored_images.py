"""The image column as it is stored: paths and bytes, whatever a user made of it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage


def with_stored_images(dataset: Dataset) -> Dataset:
    """The dataset with images as ``{"path", "bytes"}``, also where its image column was cast to decoded images."""
    feature = dataset.features["image"]
    if isinstance(feature, Image) and feature.decode:
        return dataset.cast_column("image", Image(decode=False))
    return dataset


def image_sizes(dataset: Dataset, rows: Sequence[int]) -> np.ndarray:
    """``(N, 2)`` sides in px, as the files have them, of the images that can be opened; nothing is decoded.

    Args:
        dataset: Dataset of this package.
        rows: Of the images to look at. Those without an image, and those that do not open, are left out.
    """
    sizes = []
    for image in with_stored_images(dataset.select_columns("image").with_format(None))[list(rows)]["image"]:
        if image is None:
            continue
        try:
            with PILImage.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as opened:
                sizes.append(opened.size)
        except OSError:
            continue
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)
