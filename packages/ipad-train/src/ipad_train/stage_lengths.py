"""How long the stages of a run are, once the data are known: steps from epochs, and batches that fit the dataset."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ipad_train.config import RunConfig, StageConfig
from ipad_train.data import RunData


def resolve_stages(config: RunConfig, data: RunData, world_size: int = 1) -> tuple[RunConfig, list[str]]:
    """The configuration with every stage's length in steps, and what a user should know about it.

    A dense stage of E epochs takes ``ceil(E * labelled images / batch_size)`` steps, one of triplets
    ``ceil(E * triplets_per_epoch / batch_size)``, within ``min_steps`` and ``max_steps``. A dense batch of more images than
    are labelled is reduced to what there is, to a multiple of ``world_size`` and the stage's micro-batches. Already resolved
    stages stay as they are.

    Raises:
        ValueError: fewer labelled training images than processes, or a batch that they cannot share equally.
    """
    images = len(np.unique(data.train_entries.rows))
    if images < world_size:
        raise ValueError(f"{images} labelled training images are too few for {world_size} processes")
    said = []
    changes = {}
    for name, stage in config.stages():
        parts = world_size * (stage.accumulation or 1)
        if images < parts:
            raise ValueError(f"{images} labelled training images are too few for {parts} micro-batches of {name}")
        reduced = _fit_batch(stage, images, parts)
        if reduced.batch_size < stage.batch_size:
            said.append(
                f"{name}: batch_size reduced from {stage.batch_size} to {reduced.batch_size}: "
                f"there are {images} labelled training images"
            )
        if reduced.batch_size % parts:
            times = f"{name}.accumulation, {world_size} x {stage.accumulation}" if parts > world_size else f"{parts}"
            raise ValueError(
                f"{name}.batch_size counts over all processes and must be a multiple of their number"
                f"{' times ' if parts > world_size else ', '}{times}; got {reduced.batch_size}"
            )
        changes[name] = _in_steps(reduced, images)
    return dataclasses.replace(config, **changes), said


def epochs_of(stage: StageConfig, images: int) -> float:
    """Epochs that a stage's steps go through: of ``images`` labelled images, or of ``triplets_per_epoch`` triplets."""
    return stage.steps * stage.batch_size / _epoch_length(stage, images)


def _fit_batch(stage: StageConfig, images: int, parts: int) -> StageConfig:
    if stage.sampler != "dense" or stage.batch_size <= images:
        return stage
    return dataclasses.replace(stage, batch_size=images - images % parts)


def _in_steps(stage: StageConfig, images: int) -> StageConfig:
    if stage.epochs is None:
        return stage
    steps = math.ceil(round(stage.epochs * _epoch_length(stage, images) / stage.batch_size, 6))
    steps = max(steps, stage.min_steps or 1)
    steps = min(steps, stage.max_steps or steps)
    return dataclasses.replace(stage, steps=steps, epochs=None, min_steps=None, max_steps=None)


def _epoch_length(stage: StageConfig, images: int) -> int:
    return stage.triplets_per_epoch if stage.sampler == "triplet" else images
