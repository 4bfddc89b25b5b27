"""Processes as torchrun starts them, forked from one that has imported everything: imports take longer than the steps."""

from __future__ import annotations

import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable


def fork(count: int, work: Callable[[], None]) -> None:
    """Do the same in several processes that find each other by the variables that torchrun sets.

    Args:
        count: Processes; 0 is one that knows of no launcher.
        work: What each does.

    Raises:
        RuntimeError: one of them failed; the others are then ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = set()
    for rank in range(max(count, 1)):
        child = os.fork()
        if child == 0:
            if count:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
                os.environ |= {"LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            _end_with(work)
        running.add(child)
    failed = []
    while running:
        child, status = os.wait()
        running.discard(child)
        if status and not failed:
            for other in running:
                os.kill(other, signal.SIGKILL)
        failed += [status] * bool(status)
    if failed:
        raise RuntimeError(f"of {count} processes {len(failed)} failed, the first with status {failed[0]}")


def _end_with(work: Callable[[], None]) -> None:
    code = 1
    gc.freeze()  # a collection would look through all that was imported, and copy its memory
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
