"""The plan of a batch: which rows it holds and what is asked of them. Samplers make plans, workers make batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Sampler


class BatchPlan(NamedTuple):
    """What a batch consists of.

    Attributes:
        rows: ``(N,)`` distinct rows of the dataset.
        image_index: ``(B,)`` position in ``rows`` of each entry's image.
        attribute_ids: ``(B,)``.
        value_ids: ``(B,)``, flat.
        parts: How many parts of equal length are stacked on the entries: 3 for triplets, so that entries ``i``,
            ``i + B / 3`` and ``i + 2 * B / 3`` belong together; 1 otherwise.
    """

    rows: np.ndarray
    image_index: np.ndarray
    attribute_ids: np.ndarray
    value_ids: np.ndarray
    parts: int = 1


class PlanSampler(Protocol):
    """What every sampler of this package offers: plans as a pure function of (seed, epoch, step, rank)."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same on every rank."""

    def plan(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> BatchPlan:
        """Plan of one step on one rank; the union over ranks is the plan of a single process."""


class EpochPlans(Sampler[BatchPlan]):
    """Plans of one epoch, from a step on: a ``sampler`` for a ``DataLoader`` with ``batch_size=None``."""

    def __init__(
        self, sampler: PlanSampler, epoch: int, start_step: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if not 0 <= start_step <= sampler.steps_per_epoch:
            raise ValueError(f"start_step must be within [0, {sampler.steps_per_epoch}], got {start_step}")
        check_rank(rank, world_size)
        self.sampler = sampler
        self.epoch, self.start_step = epoch, start_step
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.sampler.steps_per_epoch - self.start_step

    def __iter__(self) -> Iterator[BatchPlan]:
        for step in range(self.start_step, self.sampler.steps_per_epoch):
            yield self.sampler.plan(self.epoch, step, self.rank, self.world_size)


class EndlessPlans(Sampler[BatchPlan]):
    """Plans of one epoch after the other, without end: a ``sampler`` for a ``DataLoader`` whose workers live on.

    Args:
        sampler: Where the plans come from.
        start_step: Step to begin with, counted over all epochs: step 0 of epoch 1 is ``sampler.steps_per_epoch``.
        rank, world_size: Which share of each batch to plan.

    Raises:
        ValueError: a negative ``start_step``, or a rank that does not exist.
    """

    def __init__(self, sampler: PlanSampler, start_step: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if start_step < 0:
            raise ValueError(f"start_step must be at least 0, got {start_step}")
        check_rank(rank, world_size)
        self.sampler, self.start_step = sampler, start_step
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[BatchPlan]:
        for position in itertools.count(self.start_step):
            epoch, step = divmod(position, self.sampler.steps_per_epoch)
            yield self.sampler.plan(epoch, step, self.rank, self.world_size)


def plans(
    sampler: PlanSampler, epoch: int, start_step: int = 0, rank: int = 0, world_size: int = 1
) -> Sampler[BatchPlan]:
    """Plans of one epoch, to be given to a ``DataLoader``.

    Example:
        >>> DataLoader(BatchDataset(train, 128), sampler=plans(sampler, epoch=0), batch_size=None)  # doctest: +SKIP
    """
    return EpochPlans(sampler, epoch, start_step, rank, world_size)


def plan_from_rows(rows: np.ndarray, attribute_ids: np.ndarray, value_ids: np.ndarray, parts: int = 1) -> BatchPlan:
    """Plan of entries given with the row of each; a row that comes more than once becomes one image."""
    distinct, image_index = np.unique(rows, return_inverse=True)
    return BatchPlan(distinct, image_index.reshape(-1), attribute_ids, value_ids, parts)


def check_rank(rank: int, world_size: int) -> None:
    """Raise ``ValueError`` unless ``0 <= rank < world_size``."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be within [0, world_size = {world_size}), got {rank}")


def share_of_rank(batch_size: int, rank: int, world_size: int) -> slice:
    """Contiguous share of a rank in a global batch.

    Raises:
        ValueError: ``world_size`` does not divide ``batch_size``, or the rank is out of range.
    """
    check_rank(rank, world_size)
    if batch_size % world_size:
        raise ValueError(f"world_size must divide the global batch size {batch_size}, got {world_size}")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def check_step(epoch: int, step: int, steps_per_epoch: int) -> None:
    """Raise ``ValueError`` unless epoch and step exist."""
    if epoch < 0 or not 0 <= step < steps_per_epoch:
        raise ValueError(
            f"epoch must be at least 0 and step within [0, {steps_per_epoch}), got epoch {epoch}, step {step}"
        )


def check_positive(**counts: int) -> None:
    """Raise ``ValueError`` naming the first argument that is not at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
