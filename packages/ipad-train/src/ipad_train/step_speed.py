"""How long a training step takes: of a run while it trains, or of a few steps of one that is yet to be trained."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ipad_train.budget import with_steps
from ipad_train.checkpoint import write_json
from ipad_train.clock import images_of_a_step
from ipad_train.config import RunConfig
from ipad_train.data import RunData
from ipad_train.loop import BetweenSteps, StageLoop
from ipad_train.run_context import RunContext
from ipad_train.training import Training

_WARM_UP, _PAUSE = 3, 10  # steps that are not counted; a gap of so many medians is an evaluation, not a step


class StepTimer:
    """Seconds of the steps of each stage.

    Args:
        follow: Is called as well at every step.
        now: Seconds of a clock.
    """

    def __init__(
        self,
        follow: Callable[[str, int], None] = lambda stage, step: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.follow, self.now = follow, now
        self._ends: dict[str, list[float]] = {}

    def step_done(self, stage: str, step: int) -> None:
        """To be called after every step."""
        self._ends.setdefault(stage, []).append(self.now())
        self.follow(stage, step)

    def seconds(self) -> dict[str, float]:
        """Mean seconds a step by stage; evaluations between steps are left out, and stages of too few steps."""
        means = {}
        for stage, ends in self._ends.items():
            gaps = np.diff(ends)[_WARM_UP - 1 :]
            if len(gaps):
                means[stage] = float(gaps[gaps <= _PAUSE * np.median(gaps)].mean())
        return means


def images_per_second(config: RunConfig, seconds: dict[str, float]) -> float | None:
    """Training images a second over the stages after stage 0; None where a stage was not timed."""
    stages = [(name, stage) for name, stage in config.stages() if name != "stage0"]
    if not stages or any(name not in seconds for name, _ in stages):
        return None
    images = sum(stage.steps * images_of_a_step(config, stage) for _, stage in stages)
    return images / sum(stage.steps * seconds[name] for name, stage in stages)


def measure_steps(
    config: RunConfig, steps: int = 12, data: RunData | None = None
) -> tuple[RunConfig, dict[str, float]]:
    """Time a few steps of stages 1 and 2 of a run, in a folder that is deleted again. ``data`` as in :class:`Training`.

    Returns:
        The configuration with the lengths of its stages in steps, and the mean seconds of a step by stage.
    """
    with tempfile.TemporaryDirectory() as folder:
        training = Training(dataclasses.replace(config, output_dir=folder), None, lambda line: None, data)
        timer = StepTimer()
        for name, stage in training.config.stages():
            if name == "stage0":
                continue
            run = training._start_stage(name, with_steps(stage, steps), 0, False)
            between = BetweenSteps(step_done=timer.step_done)
            StageLoop(run, training.accelerator, training.config.loop, between).train()
            training.accelerator.free_memory()
        resolved = dataclasses.replace(training.config, output_dir=config.output_dir)
        training.tracker.close()
        training._release()
    return resolved, timer.seconds()


def measured_once(
    path: Path, configs: Mapping[str, RunConfig], context: RunContext
) -> dict[str, dict[str, dict[str, float]]]:
    """By name, ``seconds`` of a step and ``steps`` of each stage of runs; what a JSON file has is not measured again.

    The runs share the data of ``context``.
    """
    accelerator = context.accelerator
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    accelerator.wait_for_everyone()
    for name, config in configs.items():
        if name not in kept:
            context.announce(f"timing a few steps of {name}")
            resolved, seconds = measure_steps(config, data=context.data)
            kept[name] = {"seconds": seconds, "steps": {stage: part.steps for stage, part in resolved.stages()}}
            if accelerator.is_main_process:
                write_json(path, kept)
    return kept
