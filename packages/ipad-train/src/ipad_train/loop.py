"""The one training loop: what differs between methods and stages is the objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm.auto import tqdm

from ipad_train.batch_norm import freeze_batch_norm
from ipad_train.config import LoopConfig, StageConfig
from ipad_train.distributed import average_statistics
from ipad_train.launch import step_precision
from ipad_train.optim import set_learning_rate
from ipad_train.step_inputs import StepInputs, StepSeed
from ipad_train.tracking import Tracker


class DivergedError(RuntimeError):
    """A loss or a gradient became NaN or infinite."""


@dataclass
class StageRun:
    """One stage in progress, and all that a step of it needs.

    ``objective`` and ``optimizer`` are as Accelerate prepared them; ``batches`` yields ``accumulation`` micro-batches
    a step; ``offset`` is the global step at the stage's start; ``ended`` says that the stage is over before its last
    step, as it was long without progress. ``attributes`` are their names by id; ``stuck`` is how many the last
    evaluation found at chance, None before the first.
    """

    name: str
    stage: StageConfig
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Iterator[dict[str, torch.Tensor]]
    inputs: StepInputs
    offset: int
    step: int = 0
    augmentation_seed: int = 0
    ended: bool = False
    attributes: Sequence[str] = ()
    stuck: int | None = None

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step."""
        return self.stage.accumulation or 1


def run_stage(
    run: StageRun,
    accelerator: Accelerator,
    config: LoopConfig,
    tracker: Tracker | None,
    evaluate: Callable[[StageRun], bool],
    save: Callable[[StageRun], None],
    stop_requested: Callable[[], bool],
    step_done: Callable[[str, int], None] = lambda stage, step: None,
) -> bool:
    """Train a stage from ``run.step`` to its end; returns False where a requested stop ended it early.

    ``evaluate`` answers whether the stage should end; ``save`` is called there, and every so many steps; ``step_done``
    is called with the stage and its number of steps after each of them.

    Losses and gradients are checked without waiting for the device at every step: a flag travels with them and is read
    when they are logged and before anything is saved, so that no damaged weights are ever written.

    Raises:
        DivergedError: a loss or a gradient is NaN or infinite; the message names the step and the last checkpoint
        stays as it is.
    """
    # The scaler of fp16 tries scales that overflow, and leaves such steps out by itself.
    watch = LossWatch(accelerator.device, check_gradients=accelerator.mixed_precision != "fp16")
    bar = tqdm(
        total=run.stage.steps, initial=run.step, desc=run.name, unit="step", dynamic_ncols=True,
        disable=not accelerator.is_local_main_process, mininterval=1.0,
    )  # fmt: skip
    set_training_mode(run, config)
    with bar:
        while run.step < run.stage.steps and not run.ended:
            messages = train_step(run, accelerator, watch, config.batch_norm)
            for message in messages if tracker is not None else ():
                tracker.event(run.offset + run.step + 1, run.name, message)
                bar.write(message)
            run.step += 1
            bar.update()
            step_done(run.name, run.step)
            due = run.step % config.log_every == 0 or run.step == run.stage.steps
            asking = due or accelerator.num_processes == 1 or run.step % STOP_EVERY == 0
            stopping = asking and stop_requested()
            saving = run.step % config.save_every == 0 or run.step == run.stage.steps or stopping
            evaluating = run.step == run.stage.steps or (config.eval_every and run.step % config.eval_every == 0)
            if due or saving or evaluating:
                means = watch.read(run.name, accelerator)
                if tracker is not None and means:
                    means["learning_rate"] = max(group["lr"] for group in run.optimizer.param_groups)
                    tracker.log(run.offset + run.step, run.name, name_attributes(means, run.attributes))
                    stuck = {} if run.stuck is None else {"stuck": f"{run.stuck} of {len(run.attributes)}"}
                    bar.set_postfix(loss=f"{means['loss']:.3f}", **stuck, refresh=False)
            if evaluating:
                run.ended = evaluate(run)
                set_training_mode(run, config)
            if saving or run.ended:
                save(run)
            if stopping:
                return False
    return True


def set_training_mode(run: StageRun, config: LoopConfig) -> None:
    """Training mode; batch norm as ``loop.batch_norm`` says."""
    run.objective.train()
    if config.batch_norm == "frozen":
        freeze_batch_norm(run.objective)


def train_step(run: StageRun, accelerator: Accelerator, watch: LossWatch, batch_norm: str) -> list[str]:
    """One step of the optimizer, over all its micro-batches; returns what the objective has to say.

    The gradient is the mean of the micro-batches' gradients. The losses that a batch's entries form with each other
    see one micro-batch (of all processes) at a time; batch norm does as well.
    """
    objective = accelerator.unwrap_model(run.objective)
    set_learning_rate(run.optimizer, run.stage, run.step)
    batches = []
    for number in range(run.accumulation):
        batch = next_batch(run, accelerator, number)
        with accelerator.accumulate(run.objective):
            with step_precision(accelerator):
                losses = run.objective(batch)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(run.objective.parameters(), run.stage.gradient_clip or math.inf)
                if norm is not None:
                    losses = {**losses, GRADIENT_NORM: norm}
            run.optimizer.step()
            run.optimizer.zero_grad()
        if "skipped" in batch:
            losses = {**losses, "skipped_images": batch["skipped"]}  # unreadable ones, data.on_error=skip
        watch.add(losses, run.step)
        batches.append(batch)
    if batch_norm == "local":
        average_statistics(objective.model)
    with step_precision(accelerator):
        return objective.after_step(batches, run.step)


def next_batch(run: StageRun, accelerator: Accelerator, number: int) -> dict[str, Any]:
    """A micro-batch of the step, on the device and augmented."""
    batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in next(run.batches).items()}
    part = number * accelerator.num_processes + accelerator.process_index
    with torch.no_grad():
        batch = run.inputs(batch, StepSeed(run.augmentation_seed, run.step, part))
    del batch["rows"]
    return batch


STOP_EVERY = 10  # steps between two looks of several processes at whether one was asked to stop
GRADIENT_NORM = "gradient_norm"  # of all processes' mean gradient, before clipping
ACTIVE = "active/"  # + id of an attribute: share of its triplets with a loss; NaN where a batch has none of it


def name_attributes(means: dict[str, float], attributes: Sequence[str]) -> dict[str, float]:
    """The same numbers, with ``active/<attribute id>`` spelled ``active/<attribute>``."""

    def spelled(key: str) -> str:
        number = key.removeprefix(ACTIVE)
        return f"{ACTIVE}{attributes[int(number)]}" if key.startswith(ACTIVE) and number.isdigit() else key

    return {spelled(key): value for key, value in means.items()}


class LossWatch:
    """Running means of named losses on the device, and the first step at which loss or gradient was not finite.

    A share of active triplets counts only in the steps and processes that have one.
    """

    def __init__(self, device: torch.device, check_gradients: bool = True) -> None:
        self.device, self.check_gradients = device, check_gradients
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, torch.Tensor] = {}

    def add(self, losses: dict[str, torch.Tensor | float], step: int) -> None:
        """Take in the losses of a step; nothing is read back from the device."""
        for name, value in losses.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
            there = torch.ones_like(value)
            if name.startswith(ACTIVE):
                there, value = (~value.isnan()).float(), value.nan_to_num(nan=0.0)
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + there
        checked = ["loss", GRADIENT_NORM] if self.check_gradients and GRADIENT_NORM in losses else ["loss"]
        finite = [torch.isfinite(torch.as_tensor(losses[name], device=self.device).detach()) for name in checked]
        bad = ~torch.stack(finite).all()
        self.first_bad = torch.where(bad & (self.first_bad < 0), step, self.first_bad)

    def read(self, stage: str, accelerator: Accelerator) -> dict[str, float]:
        """Means since the last call, over processes.

        Raises:
            DivergedError: on every process, if the loss or gradient of any was not finite.
        """
        names = sorted(self.sums)
        if not names:
            return {}
        values = torch.stack([self.sums[name] for name in names] + [self.first_bad.float()])
        counts = torch.stack([self.counts[name] for name in names] + [torch.ones((), device=self.device)])
        sums, counts = accelerator.gather(torch.stack([values, counts])[None]).unbind(dim=1)  # (processes, losses + 1)
        self._reset()
        bad = sums[:, -1][sums[:, -1] >= 0]
        if len(bad):
            raise DivergedError(
                f"the loss of {stage}, or its gradient, became NaN or infinite at step {int(bad.min())}; training stopped, "
                "the last checkpoint holds the weights from before. Lower learning_rate, or use loop.mixed_precision=bf16 "
                "or no."
            )
        means = (sums.sum(dim=0) / counts.sum(dim=0)).tolist()
        return {name: mean for name, mean in zip(names, means, strict=False) if not math.isnan(mean)}
