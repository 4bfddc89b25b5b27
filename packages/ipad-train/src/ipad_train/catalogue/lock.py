"""Who is at a catalogue: one process at an embedded one, one indexer at a server's."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ipad_train.catalogue.engine import ABOUT, Engine
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import ID, VECTOR
from ipad_train.folder_lock import FolderBusyError, FolderLock

LEASE_SECONDS = 120.0
_LEASE = "lease"


class BusyError(CatalogueError):
    """Another process is at the catalogue."""


def lock_folder(folder: Path, purpose: str) -> FolderLock:
    """Hold the folder of an embedded catalogue; see :class:`ipad_train.folder_lock.FolderLock`.

    Raises:
        BusyError: another process holds it.
    """
    try:
        return FolderLock(folder, purpose)
    except FolderBusyError as error:
        raise BusyError(
            f"{error}, and an embedded catalogue takes one process at a time. Wait for it or stop it; a service answers "
            "searches at /api/search meanwhile; with a Milvus server several processes work at once"
        ) from None


class Lease:
    """The right to index a server's catalogue: a row with an end that the indexer moves on while it works.

    A lease of a process that died on this machine is taken over at once, another one when it ends. Two processes that take
    one in the same instant read back what the server kept, and the one whose row is not there is refused.

    Attributes:
        dim: D of the collection that holds the row.

    Raises:
        BusyError: another process holds it.
    """

    def __init__(self, engine: Engine, dim: int) -> None:
        self._engine, self.dim = engine, dim
        self._mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self._check(self._read())
        self.renew()
        time.sleep(0.3)
        self._check(self._read())

    def renew(self) -> None:
        """Move the end to ``LEASE_SECONDS`` from now."""
        text = json.dumps({**self._mine, "until": time.time() + LEASE_SECONDS})
        self._write(text)

    def release(self) -> None:
        """Let others in."""
        self._engine.delete([_LEASE], ABOUT)

    def _write(self, text: str) -> None:
        self._engine.write([{ID: _LEASE, "text": text, VECTOR: np.zeros(self.dim, dtype=np.float32)}], ABOUT)

    def _read(self) -> dict[str, Any]:
        row = self._engine.rows([_LEASE], ["text"], ABOUT)
        return json.loads(row[_LEASE]["text"]) if row else {}

    def _check(self, held: dict[str, Any]) -> None:
        if not held or held["until"] < time.time() or all(held[key] == self._mine[key] for key in self._mine):
            return
        if held["host"] == self._mine["host"] and not psutil.pid_exists(held["pid"]):
            return
        raise BusyError(
            f"process {held['pid']} on {held['host']} indexes into {self._engine.where}; wait for it or stop it (after a "
            f"crash its right to write ends by itself in {held['until'] - time.time():.0f} s)"
        )
