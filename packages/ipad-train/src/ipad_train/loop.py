"""The one training loop: what differs between methods and stages is the objective."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator
from tqdm.auto import tqdm

from ipad_train.clock import in_words
from ipad_train.collapse import collapse_warnings
from ipad_train.config import LoopConfig
from ipad_train.optim import learning_rates
from ipad_train.part_times import BETWEEN_STEPS, GpuMemory
from ipad_train.stage_run import StageRun
from ipad_train.step import Stepper
from ipad_train.step_numbers import name_attributes
from ipad_train.tracking import Tracker

STOP_EVERY = 10  # steps between two looks of several processes at whether one was asked to stop


@dataclass(frozen=True)
class BetweenSteps:
    """What a run does between the steps of a stage.

    Attributes:
        evaluate: Called when an evaluation is due; answers whether the stage should end.
        save: Called when a checkpoint is due.
        stop_requested: Whether the stage should save and end; all processes get the same answer.
        step_done: Called after each step with the stage and its number of steps.
        seconds_left: Of the run after so many steps of a stage, or None where that is not known.
    """

    evaluate: Callable[[StageRun], bool] = lambda run: False
    save: Callable[[StageRun], None] = lambda run: None
    stop_requested: Callable[[], bool] = lambda: False
    step_done: Callable[[str, int], None] = lambda stage, step: None
    seconds_left: Callable[[str, int], float | None] = lambda stage, step: None


class StageLoop:
    """Trains a stage from ``run.step`` to its end.

    Args:
        run: The stage.
        accelerator: Its processes.
        config: How often to log, evaluate and save.
        between: What happens between steps.
        tracker: Records numbers and events; None on all processes but the main one.
    """

    def __init__(
        self,
        run: StageRun,
        accelerator: Accelerator,
        config: LoopConfig,
        between: BetweenSteps,
        tracker: Tracker | None = None,
    ) -> None:
        self.run, self.accelerator, self.config = run, accelerator, config
        self.between, self.tracker = between, tracker
        self.stepper = Stepper(run, accelerator, config)
        self._memory = GpuMemory(accelerator.device)
        self._skipped, self._timed = run.health.skipped, run.step
        self.bar = tqdm(
            total=run.stage.steps,
            initial=run.step,
            desc=run.name,
            unit="step",
            dynamic_ncols=True,
            disable=not accelerator.is_local_main_process,
            mininterval=1.0,
        )

    def train(self) -> bool:
        """Train; returns False where a requested stop ended the stage early.

        Raises:
            DivergedError: losses or gradients were not finite too many times in a row, or weights are not when they are to
                be saved; the last checkpoint stays as it is.
        """
        run, times, stopping = self.run, self.stepper.times, False
        with self.bar:
            while run.step < run.stage.steps and not run.ended:
                messages = self.stepper.step()
                run.step += 1
                self._tell(messages)
                self.bar.update()
                self.between.step_done(run.name, run.step)
                last, due = run.step == run.stage.steps, self._is_due
                asking = due(self.config.log_every) or self.accelerator.num_processes == 1 or due(STOP_EVERY)
                stopping = asking and self.between.stop_requested()
                saving = due(self.config.save_every) or stopping
                evaluating = last or (self.config.eval_every > 0 and due(self.config.eval_every))
                if due(self.config.log_every) or saving or evaluating:
                    self._log()
                if evaluating:
                    with times.part("evaluation"):
                        run.ended = self.between.evaluate(run)
                    self.stepper.set_training_mode()
                if saving or run.ended:
                    with times.part("checkpoints"):
                        self.between.save(run)
                if stopping:
                    break
        self._log_times()
        return not stopping

    def _is_due(self, every: int) -> bool:
        return self.run.step % every == 0 or self.run.step == self.run.stage.steps

    def _log(self) -> None:
        """Write the means since the last time, and what they tell of the embeddings."""
        run = self.run
        means = name_attributes(self.stepper.numbers.read(self.accelerator), run.attributes)
        warnings = collapse_warnings(run, means)
        if skipped := run.health.skipped - self._skipped:
            means["skipped_steps"] = skipped
            self._skipped = run.health.skipped
        if self.tracker is not None and means:
            means |= self.stepper.objective.state_numbers()
            means |= learning_rates(run.stage, run.step - 1)
            if self.accelerator.scaler is not None:
                means["loss_scale"] = self.accelerator.scaler.get_scale()
            self.tracker.log(run.global_step, run.name, means)
        speed = self._log_times()
        self._tell(warnings)
        self.bar.set_postfix_str(self._postfix(means, speed), refresh=False)

    def _log_times(self) -> float | None:
        """Write the seconds of each part since the last time; returns images a second of the steps among them."""
        run, (seconds, elapsed) = self.run, self.stepper.times.read()
        steps, self._timed = run.step - self._timed, run.step
        stepping = elapsed - sum(seconds.get(part, 0.0) for part in BETWEEN_STEPS)
        speed = steps * run.images / stepping if steps and stepping > 0 else None
        if self.tracker is not None and (steps or seconds):
            self.tracker.time(run.global_step, run.name, steps, elapsed, seconds, speed, self._memory.most())
        return speed

    def _postfix(self, means: dict[str, float], speed: float | None) -> str:
        run, parts = self.run, []
        if "loss" in means:
            parts.append(f"loss={means['loss']:.3f}")
        if speed:
            parts.append(f"{speed:.3g} images/s")
        if run.stuck is not None:
            parts.append(f"stuck={run.stuck} of {len(run.attributes)}")
        if run.health.skipped:
            parts.append(f"skipped={run.health.skipped}")
        left = self.between.seconds_left(run.name, run.step)
        if left is not None:
            parts.append(f"run: {in_words(left)} left")
        return ", ".join(parts)

    def _tell(self, messages: list[str]) -> None:
        """Say something to the user, and keep it in the metrics."""
        if self.tracker is not None:
            for message in messages:
                self.tracker.event(self.run.global_step, self.run.name, message)
                self.bar.write(message)
