"""Where the time of training goes: seconds of every part of a step, and of what lies between steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

PARTS = (
    "data",
    "to the device",
    "forward",
    "backward",
    "optimizer",
    "momentum and queues",
    "evaluation",
    "checkpoints",
)
BETWEEN_STEPS = ("evaluation", "checkpoints")
_ON_THE_HOST = ("data", *BETWEEN_STEPS)  # waited for by the process, wherever it trains


class PartTimes:
    """Adds up the seconds of named parts.

    On a GPU a part is what lies between two events of its stream, so that nobody waits for it; ``data`` is the time that
    the process waits for its loader, and overlaps with what the GPU does meanwhile. On a CPU all is the process's own time.

    Args:
        device: Where the steps run.
        now: Seconds of a clock.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self.uses_events, self.now = device.type == "cuda", now
        self._marks: list[tuple[str, Any, Any]] = []
        self._seconds: dict[str, float] = {}
        self._since = now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is inside as a part."""
        if self.uses_events and name not in _ON_THE_HOST:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._marks.append((name, start, end))
        else:
            started = self.now()
            yield
            self._add(name, self.now() - started)

    def read(self) -> tuple[dict[str, float], float]:
        """Seconds by part, and of the clock, since the last call; GPU work that is not done yet counts in the next one."""
        done = [mark for mark in self._marks if mark[2].query()]
        self._marks = self._marks[len(done) :]
        for name, start, end in done:
            self._add(name, start.elapsed_time(end) / 1000)
        seconds, elapsed = self._seconds, self.now() - self._since
        self._seconds, self._since = {}, self._since + elapsed
        return {name: seconds[name] for name in PARTS if name in seconds}, elapsed

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds


class GpuMemory:
    """The most memory of a GPU that tensors of this process took at a time, from now on.

    Args:
        device: Where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device if device.type == "cuda" else None
        if self.device is not None:
            torch.cuda.reset_peak_memory_stats(self.device)

    def most(self) -> float | None:
        """GiB; None where there is no GPU."""
        return None if self.device is None else torch.cuda.max_memory_allocated(self.device) / 2**30
