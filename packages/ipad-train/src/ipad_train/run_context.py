"""What nearly every part of a run needs together: its configuration, its data and its processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from ipad_train.config import RunConfig
from ipad_train.data import RunData, load_data
from ipad_train.launch import make_accelerator


@dataclass(frozen=True)
class RunContext:
    """A run's configuration, data and processes.

    Args:
        config: The run.
        data: Its splits.
        accelerator: Its processes.
        announce: Receives a line for the user.
    """

    config: RunConfig
    data: RunData
    accelerator: Accelerator
    announce: Callable[[str], None] = print

    @classmethod
    def open(
        cls, config: RunConfig, announce: Callable[[str], None] = print, accelerator: Accelerator | None = None
    ) -> RunContext:
        """Start the processes of a run, unless they are given, and load its data.

        Raises:
            ValueError: as :func:`ipad_train.data.load_data`.
        """
        accelerator = make_accelerator(config) if accelerator is None else accelerator
        with accelerator.main_process_first():
            return cls(config, load_data(config.data), accelerator, announce)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.config.output_dir)
