"""Where a run stands: a checkpoint that it goes on from, and whether it may."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipad_train.checkpoint import CheckpointError
from ipad_train.config import RunConfig
from ipad_train.config_identity import config_hash, different_keys, run_facts


@dataclass(frozen=True)
class Position:
    """A checkpoint that a run goes on from, and its ``state.json``; without a checkpoint, the beginning."""

    checkpoint: Path | None
    state: dict[str, Any]

    @classmethod
    def beginning(cls) -> Position:
        """Of a run that starts anew."""
        return cls(None, {"stage": None, "stage_step": 0, "step": 0})

    @property
    def stage(self) -> str | None:
        """The stage in progress; None at the beginning."""
        return self.state["stage"]

    @property
    def stage_step(self) -> int:
        """Steps of the stage that are done."""
        return self.state["stage_step"]

    def check(self, config: RunConfig, processes: int) -> list[str]:
        """Refuse a checkpoint that this run cannot continue to the bit; returns what the user should know.

        One thing may change: the last stage may become longer, also after the run has ended.

        Raises:
            CheckpointError: another configuration, whose differing keys are named, or another number of processes.
        """
        saved = self.state.get("config")
        if saved is None:
            return []
        lines = []
        if self.state.get("config_hash") != config_hash(config):
            different = different_keys(run_facts(saved), run_facts(config))
            lines = _extension(config, different, self)
            if different:
                told = ", ".join(f"{key} ({old!r} there, {new!r} here)" for key, (old, new) in different.items())
                raise CheckpointError(
                    f"{self.checkpoint} is of another configuration: {told}; resume with the run's own config.yaml, or "
                    "start anew in another output_dir. Only the last stage may become longer"
                )
        if self.state["world_size"] != processes:
            raise CheckpointError(
                f"{self.checkpoint} was written by {self.state['world_size']} processes, this run has "
                f"{processes}; resume with as many: sums in another order would be another run"
            )
        return lines


def _extension(config: RunConfig, different: dict[str, tuple[Any, Any]], position: Position) -> list[str]:
    """Take a longer last stage out of the differences; returns what it means."""
    name, stage = config.stages()[-1]
    key = f"{name}.steps"
    if key not in different or not different[key][0] or different[key][0] > different[key][1]:
        return []
    before, after = different.pop(key)
    line = f"{name} is extended from {before} to {after} steps"
    done = position.stage_step if position.stage == name else 0
    if done and stage.schedule == "one_cycle":
        line += f"; its learning rate follows the longer schedule from step {done} on, so that it rises there"
    return [line]
