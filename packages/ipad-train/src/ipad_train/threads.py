"""How many threads a process computes with: the cores there are, unless the user has set a number."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import torch

VARIABLE = "OMP_NUM_THREADS"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "quota period" in microseconds, or "max period"


def use_threads(setting: int | None, num_workers: int) -> tuple[int, str]:
    """Set torch's threads of this process; returns their number, and a text that says how it came about.

    Args:
        setting: ``loop.threads``, which goes before everything else.
        num_workers: Loader processes that decode beside this one.
    """
    cores, processes = available_cores(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    threads, why = setting, "loop.threads"
    if threads is None:
        threads, why = user_threads(), VARIABLE
    if threads is None:
        threads, why = shared_threads(cores, processes, num_workers), f"of {cores} cores"
    torch.set_num_threads(threads)
    return threads, why


def shared_threads(cores: int, processes: int, num_workers: int) -> int:
    """Threads of each of a machine's processes.

    Each has an equal share of the cores. A quarter of it, or less, is left to its loader workers: they decode and mostly
    wait. On few cores nothing is left to them.
    """
    share = cores // processes
    return max(1, share - num_workers, math.ceil(0.75 * share))


def available_cores() -> int:
    """Cores that this process may use: those of its affinity, within its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_LIMIT.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroups here, or no limit
        return cores


def user_threads(environment: Mapping[str, str] = os.environ, parent: psutil.Process | None = None) -> int | None:
    """``OMP_NUM_THREADS`` where the user has set it; None where it is unset, or a launcher's own default.

    ``accelerate launch`` and ``torchrun`` set it for the processes that they start. It is the user's if the launcher got it
    from its own environment, or was told by ``--num_cpu_threads_per_process``.

    Args:
        parent: The process that started this one.
    """
    text = environment.get(VARIABLE, "")
    if not text.isdigit() or not int(text):
        return None
    launched = "ACCELERATE_MIXED_PRECISION" in environment or "TORCHELASTIC_RUN_ID" in environment
    if not launched:
        return int(text)
    try:
        parent = parent or psutil.Process().parent()
        asked = VARIABLE in parent.environ() or any("num_cpu_threads" in word for word in parent.cmdline())
    except (psutil.Error, AttributeError):  # the launcher is gone, or is another user's
        return None
    return int(text) if asked else None
