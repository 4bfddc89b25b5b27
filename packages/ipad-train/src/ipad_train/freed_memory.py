"""Freed memory is kept for the next step, on machines that train on the CPU.

A step frees what it kept for backward, and glibc hands large blocks back to the system, which has to clear them again, page
by page, a moment later: 500,000 page faults in a float32 step at the paper's sizes. After an evaluation it is given back
once: what is free lies between blocks that stay, and grows from one run to the next in one process.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have this process and its children keep what they free; returns whether that was done.

    The most that they held at a time stays with them until :func:`give_back_freed_memory`. Nothing is done where the C
    library is another one, or where ``GLIBC_TUNABLES`` or a ``MALLOC_*`` variable says how to go about it.
    """
    chosen = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in environment)
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def give_back_freed_memory() -> None:
    """Hand what is free back to the system now; the next step takes it anew. Nothing happens without glibc."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
