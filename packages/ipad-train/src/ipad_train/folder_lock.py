"""One process at a time in a folder: a lock that the operating system takes back when its process dies, however it dies."""

from __future__ import annotations

import os
import warnings
import weakref
from pathlib import Path
from typing import IO

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
    """Holds a folder until :meth:`release`, or until this process dies. Processes that it forks do not hold it.

    On a file system without locks, as on Windows, nobody is kept out; a warning says so.

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
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process is at"
            self._file.close()
            raise FolderBusyError(owner, folder) from None
        except OSError as error:
            warnings.warn(
                f"{folder} lies on a file system without locks ({error.strerror}): take care that no other process "
                f"{purpose} it",
                stacklevel=2,
            )
        # A loader's worker that outlives this process for some seconds would keep the folder locked.
        held = weakref.ref(self._file)
        os.register_at_fork(after_in_child=lambda: _close(held()))
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} {purpose}")
        self._file.flush()

    def release(self) -> None:
        """Let others in; may be called twice."""
        self._file.close()


def _close(file: IO[str] | None) -> None:
    if file is not None:
        file.close()
