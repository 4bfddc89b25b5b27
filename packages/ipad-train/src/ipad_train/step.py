"""One step of the optimizer, over all its micro-batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator

from ipad_train.batch_norm import RunningStatistics, freeze_batch_norm
from ipad_train.config import LoopConfig
from ipad_train.distributed import average_statistics
from ipad_train.finite import looks_for_a_scale, spoiled, step_fails, tell_skipped
from ipad_train.launch import step_precision
from ipad_train.optim import set_learning_rate
from ipad_train.part_times import PartTimes
from ipad_train.stage_run import StageRun
from ipad_train.step_inputs import StepSeed
from ipad_train.step_numbers import GRADIENT_NORM, StepNumbers


class Stepper:
    """Does the steps of a stage.

    Args:
        run: The stage.
        accelerator: Its processes.
        config: Batch norm, and how many steps may be skipped.
    """

    def __init__(self, run: StageRun, accelerator: Accelerator, config: LoopConfig) -> None:
        self.run, self.accelerator, self.config = run, accelerator, config
        self.objective = accelerator.unwrap_model(
            run.objective
        )  # once: Accelerate looks at what is installed each time
        self.numbers, self.times = StepNumbers(accelerator.device), PartTimes(accelerator.device)
        self.set_training_mode()

    def set_training_mode(self) -> None:
        """Training mode, batch norm as ``loop.batch_norm`` says; to be called after an evaluation as well."""
        self.run.objective.train()
        if self.config.batch_norm == "frozen":
            freeze_batch_norm(self.run.objective)
        self._statistics = RunningStatistics(self.objective.model)

    def step(self) -> list[str]:
        """The next step; returns lines for the user.

        The gradient is the mean of the micro-batches' gradients. The losses that a batch's entries form with each other
        see one micro-batch (of all processes) at a time; batch norm does as well. A step whose loss or gradient is not
        finite changes nothing: neither weights nor running statistics, momentum encoder or queues. One at which the scaler
        of fp16 looks for a lower scale is left out in the same way, and does not count as failed.

        Raises:
            DivergedError: more than ``loop.max_skipped`` steps in a row.
        """
        run = self.run
        set_learning_rate(run.optimizer, run.stage, run.step)
        self._statistics.keep()
        batches: list[dict[str, Any]] = []
        numbers: list[dict[str, Any]] = []
        losses: list[torch.Tensor] = []
        fails = False
        for number in range(run.accumulation):
            batch = next_batch(run, self.accelerator, number, self.times)
            found, fails = self._learn(batch, losses)
            if "skipped" in batch:
                found["skipped_images"] = batch["skipped"]  # unreadable ones, data.on_error=skip
            batches.append(batch)
            numbers.append(found)
        objective = self.objective
        overflows = self.accelerator.scaler is not None and run.optimizer.step_was_skipped
        if fails or overflows:
            self._statistics.restore()
            objective.forget_batches()
            if not fails and looks_for_a_scale(self.accelerator.scaler):
                return []
            return tell_skipped(run, losses, self.config.max_skipped)
        run.health.good()
        for found in numbers:
            self.numbers.add(found)
        if self.config.batch_norm == "local":
            average_statistics(objective.model)
        with self.times.part("momentum and queues"), step_precision(self.accelerator):
            return objective.after_step(batches, run.step)

    def _learn(self, batch: dict[str, Any], losses: list[torch.Tensor]) -> tuple[dict[str, Any], bool]:
        """Forward and backward pass of a micro-batch, and with the last one the optimizer's step.

        Args:
            batch: The micro-batch.
            losses: Of the micro-batches before it; this one's is added.

        Returns:
            Its numbers, and whether the step fails.
        """
        run, accelerator, times = self.run, self.accelerator, self.times
        fails = False
        with accelerator.accumulate(run.objective):
            with times.part("forward"):
                numbers = dict(run.objective(batch))
            losses.append(numbers["loss"].detach())
            with times.part("data"):
                run.batches.fetch()
            with times.part("backward"):
                accelerator.backward(spoiled(numbers["loss"]))  # DeepSpeed's engine makes its step here as well
            with times.part("optimizer"):
                if accelerator.sync_gradients:
                    clip = run.stage.gradient_clip or math.inf
                    norm = accelerator.clip_grad_norm_(run.objective.parameters(), clip)
                    fails = step_fails(accelerator, losses, norm)
                    if norm is not None:
                        numbers[GRADIENT_NORM] = norm
                if not fails or accelerator.scaler is not None:  # the scaler leaves the step out, and adapts
                    run.optimizer.step()
                run.optimizer.zero_grad()
        return numbers, fails


def next_batch(run: StageRun, accelerator: Accelerator, number: int, times: PartTimes | None = None) -> dict[str, Any]:
    """A micro-batch of the step, on the device and augmented."""
    times = times or PartTimes(torch.device("cpu"))
    with times.part("data"):
        read = next(run.batches)
    part = number * accelerator.num_processes + accelerator.process_index
    with times.part("to the device"), torch.no_grad():
        batch = run.inputs(read, StepSeed(run.augmentation_seed, run.step, part))
    del batch["rows"]
    return batch
