"""SIGTERM and SIGINT: finish the step, save, and end with a code of their own."""

from __future__ import annotations

import signal
from types import FrameType

import torch
from accelerate import Accelerator


class StopSignals:
    """Catches both signals while a run trains; a context.

    Args:
        accelerator: Of the run. With several processes a signal to one of them stops all.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._number = 0

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._request) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether a process was asked to stop. All processes have to ask at the same step, and get the same answer."""
        if self.accelerator.num_processes > 1:
            number = torch.tensor([self._number], device=self.accelerator.device)
            self._number = int(self.accelerator.gather(number).max())
        return self._number > 0

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it: 143 after SIGTERM, 130 after Ctrl-C."""
        return 128 + self._number

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._number = number
