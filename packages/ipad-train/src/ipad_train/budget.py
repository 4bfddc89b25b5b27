"""How long the networks of a comparison are trained, so that none wins by its schedule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ipad_train.config import RunConfig, StageConfig

_KINDS = ("stages", "steps", "steps-per-branch", "minutes")


@dataclass(frozen=True)
class Budget:
    """What is equal for all networks; stage 0, which they share, is not counted.

    Args:
        kind: ``stages``: stage 1 is as configured for all, and networks with two branches have stage 2 on top, as in the
            paper. ``steps``: one with a single branch trains as many steps as the configured network in both stages.
            ``steps-per-branch``: each branch of every network trains as many, so that a network with two branches trains as
            many in stage 1 and again in stage 2; a first branch that stage 2 trains on has those on top.
            ``minutes``: every network trains for so many minutes on this machine; two stages divide them as configured.
        minutes: Of ``minutes``; making kept maps and evaluating do not count.

    Raises:
        ValueError: another kind, or minutes that are not positive.
    """

    kind: str = "stages"
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or (self.kind == "minutes") != (self.minutes is not None):
            known = ", ".join(_KINDS[:-1])
            raise ValueError(f"budget must be {known} or a number of minutes, got {self.kind} {self.minutes}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"budget must be a positive number of minutes, got {self.minutes:g}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``stages``, ``steps``, ``steps-per-branch`` or e.g. ``10min``.

        Raises:
            ValueError: anything else.
        """
        if found := re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:m|min|minutes)", text):
            return cls("minutes", float(found[1]))
        if text not in _KINDS[:-1]:
            raise ValueError(f"budget must be {', '.join(_KINDS[:-1])} or minutes such as '10min', got {text!r}")
        return cls(text)

    def __str__(self) -> str:
        return self.kind.replace("-", " ") if self.minutes is None else f"{self.minutes:g} minutes"

    def apply(self, config: RunConfig, both_stages: int, seconds: Mapping[str, float] | None = None) -> RunConfig:
        """A network's run with the lengths that the budget gives it.

        Args:
            config: Its run, lengths in steps; without a stage 2 it has one branch.
            both_stages: Steps of stages 1 and 2 of the configured network.
            seconds: Of a step, by stage; only minutes need them.
        """
        names = [name for name in ("stage1", "stage2") if getattr(config, name).is_trained]
        if self.kind == "stages" or (self.kind == "steps" and len(names) == 2):
            return config
        if self.kind == "minutes":
            assert seconds is not None
            whole = sum(seconds[name] * getattr(config, name).steps for name in names)
            scale = 60 * self.minutes / whole
            lengths = {name: max(1, round(scale * getattr(config, name).steps)) for name in names}
        else:
            lengths = dict.fromkeys(names, both_stages)
        changes = {name: with_steps(getattr(config, name), steps) for name, steps in lengths.items()}
        return dataclasses.replace(config, **changes)


def with_steps(stage: StageConfig, steps: int) -> StageConfig:
    """The stage with another length."""
    return dataclasses.replace(stage, steps=steps, epochs=None, min_steps=None, max_steps=None)
