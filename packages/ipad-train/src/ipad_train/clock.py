"""How long a run will take, said once a few of its steps are timed, and kept up to date."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

from ipad_train.config import RunConfig, StageConfig

# Cost of an image in a stage's step, relative to stage 0: stage 1 reads out every attribute, stage 2 adds the second branch
# on a crop of every entry and its momentum copy. Measured on two CPU cores at the tiny preset's sizes, and rough.
_RELATIVE_COST = {"stage0": 1.0, "stage1": 1.3, "stage2": 3.0}
_EVALUATION_COST = 0.4  # of an image that is embedded, relative to one that is trained on


class RunClock:
    """Times the first steps of each stage and announces the minutes that are left.

    Args:
        config: The run, with stages in steps.
        validation_images: Images that an evaluation embeds.
        announce: Receives a line for the user.
        training_images: Images that the end of the run embeds, if it needs them for probabilities of values or re-ranking.
        now: Seconds of a clock.
    """

    WARM_UP, TIMED, REMEMBERED = 2, 5, 50  # steps

    def __init__(
        self,
        config: RunConfig,
        validation_images: int,
        announce: Callable[[str], None],
        training_images: int = 0,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.stages = dict(config.stages())
        self._step_images = {name: images_of_a_step(config, stage) for name, stage in self.stages.items()}
        self.eval_every, self.validation_images = config.loop.eval_every, validation_images
        embeds = config.values.enabled or (config.rerank.enabled and config.rerank.fit_split == "train")
        self._at_the_end = training_images if embeds else 0
        self.announce, self.now = announce, now
        self._stage, self._steps, self._started = "", 0, 0.0
        self._last: float | None = None
        self._gaps: deque[float] = deque(maxlen=self.REMEMBERED)

    def step_done(self, stage: str, step: int) -> None:
        """To be called after every step; ``step`` counts those of the stage that are done."""
        if stage != self._stage:
            self._stage, self._steps, self._last = stage, 0, None
            self._gaps.clear()
        now, self._steps = self.now(), self._steps + 1
        if self._last is not None and self._steps > self.WARM_UP:
            self._gaps.append(now - self._last)
        self._last = now
        if self._steps == self.WARM_UP:
            self._started = now
        elif self._steps == self.WARM_UP + self.TIMED:
            seconds = (now - self._started) / self.TIMED
            left = self.seconds_left(stage, step, seconds)
            later = [name for name in self.stages if name > stage]
            rough = f"; {' and '.join(later)} estimated from {stage}" if later else ""
            self.announce(f"{stage}: {seconds:.2f} s a step; about {in_words(left)} for the rest of the run{rough}")

    def left(self, stage: str, step: int) -> float | None:
        """Seconds from a step of the stage in progress to the end of the run; None before its steps were timed.

        A step takes the median of the last ones, which evaluations and checkpoints between them do not move.
        """
        if stage != self._stage or len(self._gaps) < self.TIMED:
            return None
        return self.seconds_left(stage, step, statistics.median(self._gaps))

    def seconds_left(self, stage: str, step: int, seconds: float) -> float:
        """Seconds from a step of a stage to the end of the run, where a step of it takes ``seconds``."""
        cost = seconds / (self._step_images[stage] * _RELATIVE_COST[stage])  # of an image at stage 0's rate
        total = 0.0
        for name in self.stages:
            if name >= stage:
                done = step if name == stage else 0
                total += cost * _RELATIVE_COST[name] * self._images(name, done)
        return total + cost * _RELATIVE_COST[max(self.stages)] * _EVALUATION_COST * self._at_the_end

    def _images(self, name: str, done: int) -> float:
        """Images that a stage still trains on, and those that are evaluated by their weight."""
        steps = self.stages[name].steps
        evaluations = 1 + (math.ceil(steps / self.eval_every) - 1 if self.eval_every else 0)
        evaluated = (
            (steps - done) / steps * (evaluations + 1) * self.validation_images
        )  # once more at the end of the run
        return (steps - done) * self._step_images[name] + _EVALUATION_COST * evaluated


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def images_of_a_step(config: RunConfig, stage: StageConfig) -> int:
    """Images of a step over all processes: a triplet has three, and the views of its anchor."""
    return stage.batch_size * (3 + config.data.anchor_views if stage.sampler == "triplet" else 1)
