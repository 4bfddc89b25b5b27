"""One stage in progress: all that a step of it needs, and how it fares."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ipad_train.config import StageConfig
from ipad_train.device_batches import DeviceBatches
from ipad_train.step_inputs import StepInputs


@dataclass
class StageHealth:
    """What went wrong in a stage so far; part of its checkpoints.

    ``skipped`` counts the steps that were left out since the stage began, ``in_a_row`` those since the last good one.
    ``collapsed`` are the attributes that the user was warned of.
    """

    skipped: int = 0
    in_a_row: int = 0
    collapsed: list[str] = field(default_factory=list)

    def good(self) -> None:
        """Count a step that was done."""
        self.in_a_row = 0

    def bad(self) -> None:
        """Count a step that was left out."""
        self.skipped += 1
        self.in_a_row += 1

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint's state."""
        return dataclasses.asdict(self)


@dataclass
class StageRun:
    """One stage in progress, and all that a step of it needs.

    ``objective`` and ``optimizer`` are as Accelerate prepared them; ``batches`` yields ``accumulation`` micro-batches
    a step; ``offset`` is the global step at the stage's start; ``ended`` says that the stage is over before its last
    step, as it was long without progress. ``attributes`` are their names by id; ``stuck`` is how many the last
    evaluation found at chance, None before the first. ``images`` are those of a step, over all processes.
    """

    name: str
    stage: StageConfig
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    batches: DeviceBatches
    inputs: StepInputs
    offset: int
    step: int = 0
    augmentation_seed: int = 0
    ended: bool = False
    attributes: Sequence[str] = ()
    stuck: int | None = None
    images: int = 0
    health: StageHealth = field(default_factory=StageHealth)

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step."""
        return self.stage.accumulation or 1

    @property
    def global_step(self) -> int:
        """Steps of the run that are done."""
        return self.offset + self.step
