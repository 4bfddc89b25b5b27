"""One run at a time in a folder: a lock that the operating system takes back when its process dies, however it dies."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None


class RunLock:
    """Holds a run's folder until :meth:`release`.

    Args:
        run_dir: Folder of the run, which exists.

    Raises:
        FileExistsError: another process trains in it.
    """

    def __init__(self, run_dir: Path) -> None:
        self._file = (run_dir / ".lock").open("a+", encoding="ascii")
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise FileExistsError(
                f"another process (id {owner}) trains in {run_dir}; wait for it, stop it, or take another output_dir"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let others in; may be called twice."""
        self._file.close()
