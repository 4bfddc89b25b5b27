"""Datasets, samplers and loaders of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

import ipad_data
from ipad_data import (
    AttributeSchema,
    BalancedSampler,
    BatchDataset,
    DenseSampler,
    EntryTable,
    TripletSampler,
)
from ipad_data.samplers.plan import BatchPlan, PlanSampler
from ipad_train.config import DataConfig, RunConfig, StageConfig


@dataclass(frozen=True)
class RunData:
    """The splits of a run and the schema they share."""

    splits: datasets.DatasetDict
    schema: AttributeSchema

    @property
    def train_entries(self) -> EntryTable:
        """Labelled entries of the training split."""
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


def stage_batches(
    data: RunData,
    config: RunConfig,
    stage: StageConfig,
    seed: int,
    start_step: int,
    rank: int,
    world_size: int,
    pin_memory: bool,
    with_images: bool = True,
) -> Iterator[dict[str, torch.Tensor]]:
    """Micro-batches of a stage from a step on, without end; which ones is a pure function of the arguments."""
    images = BatchDataset(
        data.splits["train"], config.data.detail_size, on_error=config.data.on_error, with_images=with_images
    )
    order = MicroBatchPlans(make_sampler(data, stage, seed), start_step, rank, world_size, stage.accumulation or 1)
    return iter(_loader(images, order, config.data.num_workers if with_images else 0, pin_memory))


class MicroBatchPlans(Sampler[BatchPlan]):
    """Plans of the micro-batches of one step after the other, without end.

    The batch of a step is cut into ``accumulation`` micro-batches, and each of them into the shares of the processes. Which
    entries a micro-batch has over all processes does not depend on their number.

    Args:
        sampler: Where the plans come from.
        start_step: Step to begin with, counted over all epochs.
        rank, world_size: Which share to plan.
        accumulation: Micro-batches of a step.
    """

    def __init__(self, sampler: PlanSampler, start_step: int, rank: int, world_size: int, accumulation: int) -> None:
        self.sampler, self.start_step = sampler, start_step
        self.rank, self.world_size, self.accumulation = rank, world_size, accumulation

    def __iter__(self) -> Iterator[BatchPlan]:
        for position in itertools.count(self.start_step):
            epoch, step = divmod(position, self.sampler.steps_per_epoch)
            for number in range(self.accumulation):
                share = number * self.world_size + self.rank
                yield self.sampler.plan(epoch, step, share, self.world_size * self.accumulation)


def evaluation_batches(
    dataset: datasets.Dataset, config: DataConfig, order, on_error: str = "raise", with_images: bool = True
) -> DataLoader:
    """Batches of an evaluation or of embedding a split, in the order given."""
    images = BatchDataset(dataset, config.detail_size, on_error=on_error, with_images=with_images)
    return _loader(images, order, config.num_workers if with_images else 0, False)


def _loader(images: BatchDataset, order, num_workers: int, pin_memory: bool) -> DataLoader:
    # A worker makes whole batches: no collation in the training process, which only moves them to the device.
    return DataLoader(
        images,
        sampler=order,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=2 if num_workers else None,
    )
