"""One process at a time in a folder: a lock that the operating system takes back when its process dies, however it dies."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None

LOCK = ".lock"


class FolderBusyError(FileExistsError):
    """Another process is at the folder; ``owner`` says which, and what it does."""

    def __init__(self, owner: str, folder: Path) -> None:
        super().__init__(f"{owner} {folder}")
        self.owner = owner


class FolderLock:
    """Holds a folder until :meth:`release`.

    Args:
        folder: It exists.
        purpose: What this process does with it, for the message to others: ``trains in``, ``indexes``, ``serves``.

    Raises:
        FolderBusyError: another process holds it.
    """

    def __init__(self, folder: Path, purpose: str) -> None:
        self._file = (folder / LOCK).open("a+", encoding="utf-8")
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process is at"
            self._file.close()
            raise FolderBusyError(owner, folder) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} {purpose}")
        self._file.flush()

    def release(self) -> None:
        """Let others in; may be called twice."""
        self._file.close()
