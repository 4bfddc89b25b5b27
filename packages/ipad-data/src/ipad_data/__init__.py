"""Attribute-aware fashion datasets as Hugging Face datasets, and the batches that models train on."""

from __future__ import annotations

from ipad_data.batches import BatchDataset
from ipad_data.errors import DatasetFilesNotFoundError, DataWarning, ImageDecodeError, LabelFileError
from ipad_data.loading import list_datasets, load
from ipad_data.samplers import (
    BalancedSampler,
    BatchPlan,
    DenseSampler,
    EndlessPlans,
    EntryTable,
    EvaluationPlans,
    TripletSampler,
    plans,
)
from ipad_data.schema import AttributeSchema
from ipad_data.stored_images import image_sizes
from ipad_data.transforms import AnchorViews, BatchAugmentation

__all__ = [
    "AnchorViews",
    "AttributeSchema",
    "BalancedSampler",
    "BatchAugmentation",
    "BatchDataset",
    "BatchPlan",
    "DataWarning",
    "DatasetFilesNotFoundError",
    "DenseSampler",
    "EndlessPlans",
    "EntryTable",
    "EvaluationPlans",
    "ImageDecodeError",
    "LabelFileError",
    "TripletSampler",
    "image_sizes",
    "list_datasets",
    "load",
    "plans",
]
