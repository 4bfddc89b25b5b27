"""Attribute-aware fashion datasets as Hugging Face datasets, and the batches that models train on."""

from __future__ import annotations

from ipad_data.errors import AnnotationError, DatasetFilesNotFoundError, ImageDecodeError
from ipad_data.loading import list_datasets, load
from ipad_data.schema import AttributeSchema

__all__ = [
    "AnnotationError",
    "AttributeSchema",
    "DatasetFilesNotFoundError",
    "ImageDecodeError",
    "list_datasets",
    "load",
]
