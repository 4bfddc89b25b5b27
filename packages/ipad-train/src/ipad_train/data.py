"""Datasets, samplers and loaders of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader

import ipad_data
from ipad_data import (
    AttributeSchema,
    BalancedSampler,
    BatchDataset,
    DenseSampler,
    EntryTable,
    TripletSampler,
)
from ipad_train.config import DataConfig, StageConfig


@dataclass(frozen=True)
class RunData:
    """The splits of a run and the schema they share."""

    splits: datasets.DatasetDict
    schema: AttributeSchema

    def split(self, name: str) -> datasets.Dataset:
        """One of the splits.

        Raises:
            ValueError: there is none of this name; the message lists them.
        """
        if name not in self.splits:
            raise ValueError(f"split must be one of {', '.join(self.splits)}, got {name!r}")
        return self.splits[name]

    @cached_property
    def train_entries(self) -> EntryTable:
        """Labelled entries of the training split, read once."""
        return EntryTable.from_dataset(self.splits["train"], role="train")

    @property
    def value_attribute_ids(self) -> torch.Tensor:
        """``(V,)`` attribute id of every flat value id."""
        return torch.from_numpy(self.schema.value_attribute_ids)

    @property
    def value_counts(self) -> torch.Tensor:
        """``(V,)`` training entries of every value."""
        value_ids = torch.from_numpy(np.ascontiguousarray(self.train_entries.value_ids))
        return torch.bincount(value_ids, minlength=self.schema.total_values)


def load_data(config: DataConfig) -> RunData:
    """Load the dataset of a run (and build its cache, once). ``config.dir`` may be a folder that `ipad-data prepare` made.

    Raises:
        ValueError: the options stream the rows or pick one split; there is nothing to train on, or to choose the best by.
    """
    for option in ("streaming", "split"):
        if config.options.get(option):
            raise ValueError(
                f"data.options must not hold {option}, got {config.options[option]!r}: a run draws the rows of all splits "
                "in an order of its own. Prepared folders are memory-mapped and need no streaming."
            )
    splits = ipad_data.load(config.name, config.dir, **config.options)
    if absent := [split for split in ("train", "validation") if split not in splits]:
        raise ValueError(
            f"data {config.name!r} in {config.dir} has no {' and no '.join(absent)} split, only {', '.join(splits)}; "
            "a run needs both: label more images, or give splits of your own"
        )
    if not len(EntryTable.from_dataset(splits["validation"], "query")):
        raise ValueError(
            f"data {config.name!r} in {config.dir} has no query in validation, which a run chooses its best model by: "
            "label more images, or give splits of your own"
        )
    return RunData(splits, AttributeSchema.from_features(splits["train"].features))


def make_sampler(data: RunData, stage: StageConfig, seed: int) -> BalancedSampler | DenseSampler | TripletSampler:
    """The stage's stateless sampler."""
    entries = data.train_entries
    if stage.sampler == "balanced":
        values, images = stage.values_per_attribute, stage.images_per_value
        steps = max(1, len(np.unique(entries.rows)) // stage.batch_size)
        return BalancedSampler(entries, stage.batch_size // (values * images), values, images, steps, seed)
    if stage.sampler == "triplet":
        return TripletSampler(entries, stage.batch_size, triplets_per_epoch=stage.triplets_per_epoch, seed=seed)
    return DenseSampler(
        entries, stage.batch_size, seed=seed, entries_per_image=stage.entries_per_image, balance=stage.balance
    )


def evaluation_batches(
    dataset: datasets.Dataset, config: DataConfig, order, on_error: str = "raise", with_images: bool = True
) -> DataLoader:
    """Batches of an evaluation or of embedding a split, in the order given."""
    images = BatchDataset(dataset, config.detail_size, on_error=on_error, with_images=with_images)
    return batch_loader(images, order, config.num_workers if with_images else 0, False)


def batch_loader(images: BatchDataset, order, num_workers: int, pin_memory: bool) -> DataLoader:
    """Batches in the order given. A worker makes whole ones: the training process only moves them to the device."""
    return DataLoader(
        images,
        sampler=order,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
    )
