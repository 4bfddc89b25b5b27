"""How much memory is free, and work in parts that fit into a share of it."""

from __future__ import annotations

import os

import torch

_CPU_CAP = 512 << 20  # larger blocks are not faster on a CPU
_DEVICE_CAP = 8 << 30


def free_memory(device: torch.device) -> int:
    """Bytes free on ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2 << 30


def work_budget(device: torch.device) -> int:
    """Bytes that one batch of work may use: a quarter of what is free, capped."""
    cap = _DEVICE_CAP if device.type == "cuda" else _CPU_CAP
    return min(cap, max(free_memory(device) // 4, 16 << 20))


def slices(count: int, step: int) -> list[slice]:
    """``count`` rows in parts of ``step``."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def batches(
    count: int, bytes_per_row: int, device: torch.device, size: int | None = None, most: int | None = None
) -> list[slice]:
    """``count`` rows in parts of ``size``, or of as many as free memory allows, at most ``most``."""
    fitting = max(1, work_budget(device) // max(bytes_per_row, 1))
    return slices(count, size or min(fitting, most or fitting))
