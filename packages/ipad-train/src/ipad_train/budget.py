"""How long the networks of a comparison are trained, so that none wins by its schedule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ipad_train.config import RunConfig, StageConfig

_KINDS = ("stages", "steps", "minutes")


@dataclass(frozen=True)
class Budget:
    """What is equal for all networks; stage 0, which they share, is not counted.

    Args:
        kind: ``stages``: stage 1 is as configured for all, and networks with two branches have stage 2 on top, as in the
            paper. ``steps``: one with a single branch trains as many steps as the configured network in both stages.
            ``minutes``: every network trains for so many minutes on this machine; two stages divide them as configured.
        minutes: Of ``minutes``; making kept maps and evaluating do not count.

    Raises:
        ValueError: another kind, or minutes that are not positive.
    """

    kind: str = "stages"
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or (self.kind == "minutes") != (self.minutes is not None):
            raise ValueError(f"budget must be stages, steps or a number of minutes, got {self.kind} {self.minutes}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"budget must be a positive number of minutes, got {self.minutes:g}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``stages``, ``steps`` or e.g. ``10min``.

        Raises:
            ValueError: anything else.
        """
        if found := re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:m|min|minutes)", text):
            return cls("minutes", float(found[1]))
        if text not in _KINDS[:2]:
            raise ValueError(f"budget must be 'stages', 'steps' or minutes such as '10min', got {text!r}")
        return cls(text)

    def __str__(self) -> str:
        return self.kind if self.minutes is None else f"{self.minutes:g} minutes"

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
        if self.kind == "steps":
            return dataclasses.replace(config, stage1=with_steps(config.stage1, both_stages))
        assert seconds is not None
        whole = sum(seconds[name] * getattr(config, name).steps for name in names)
        scale = 60 * self.minutes / whole
        lengths = {name: max(1, round(scale * getattr(config, name).steps)) for name in names}
        changes = {name: with_steps(getattr(config, name), steps) for name, steps in lengths.items()}
        return dataclasses.replace(config, **changes)


def with_steps(stage: StageConfig, steps: int) -> StageConfig:
    """The stage with another length."""
    return dataclasses.replace(stage, steps=steps, epochs=None, min_steps=None, max_steps=None)
