"""The image column as it is stored: paths and bytes, whatever a user made of it."""

from __future__ import annotations

from datasets import Dataset, Image


def with_stored_images(dataset: Dataset) -> Dataset:
    """The dataset with images as ``{"path", "bytes"}``, also where its image column was cast to decoded images."""
    feature = dataset.features["image"]
    if isinstance(feature, Image) and feature.decode:
        return dataset.cast_column("image", Image(decode=False))
    return dataset
