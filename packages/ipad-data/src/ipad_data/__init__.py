"""Attribute-aware fashion datasets as Hugging Face datasets, and the batches that models train on."""

from __future__ import annotations

from ipad_data.errors import DatasetFilesNotFoundError, ImageDecodeError, LabelFileError
from ipad_data.loading import list_datasets, load
from ipad_data.schema import AttributeSchema

__all__ = [
    "AttributeSchema",
    "DatasetFilesNotFoundError",
    "ImageDecodeError",
    "LabelFileError",
    "list_datasets",
    "load",
]
