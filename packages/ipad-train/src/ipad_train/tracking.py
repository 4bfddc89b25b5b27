"""What a run writes while it trains: one JSON object a line in ``metrics.jsonl``, and the same in other trackers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

METRICS = "metrics.jsonl"


class Tracker:
    """Append-only record of a run.

    Args:
        run_dir: Folder of the run.
        resume_step: Global step that the run continues from: later lines, of work that was lost, are removed.
        boards: Accelerate's trackers, which get the same.
    """

    def __init__(self, run_dir: Path, resume_step: int = 0, boards: Sequence[GeneralTracker] = ()) -> None:
        self.path = run_dir / METRICS
        run_dir.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(self.path) if json.loads(line)["step"] <= resume_step]
        beside = self.path.with_name(f".{METRICS}.partial")
        beside.write_text("".join(kept), encoding="utf-8")
        beside.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self._boards = boards

    def log(self, step: int, stage: str, values: dict[str, float]) -> None:
        """Record named numbers of a global step; non-finite ones are written as null."""
        row = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._write({"step": step, "stage": stage, **row})
        for board in self._boards:
            board.log(values, step=step)

    def event(self, step: int, stage: str, text: str) -> None:
        """Record something that happened once."""
        self._write({"step": step, "stage": stage, "event": text})
        for board in self._boards:
            board.log({"event": text}, step=step)

    def close(self) -> None:
        """Flush to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        for board in self._boards:
            board.finish()

    def _write(self, row: dict) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def check_trackers(names: Sequence[str]) -> None:
    """Look whether Accelerate knows and has the trackers of ``loop.log_with``.

    Raises:
        ValueError: a name that it does not know.
        ImportError: a tracker whose package is not installed.
    """
    available = {str(kind) for kind in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(map(str, LOGGER_TYPE_TO_CLASS)))
            raise ValueError(f"loop.log_with must name trackers of {known}, got {name!r}")
        if name not in available:
            raise ImportError(f"loop.log_with={name} needs its package: pip install {name}")


def start_trackers(accelerator: Accelerator, resume_step: int) -> list[GeneralTracker]:
    """The trackers of ``loop.log_with``, on the main process; tensorboard forgets what comes after ``resume_step``."""
    if not accelerator.log_with:
        return []
    purged = {"tensorboard": {"purge_step": resume_step + 1}} if resume_step else {}
    accelerator.init_trackers("ipad-train", init_kwargs=purged)
    return accelerator.trackers if accelerator.is_main_process else []


def read_metrics(run_dir: Path) -> list[dict]:
    """Rows of ``metrics.jsonl``; a half-written last line is left out."""
    return [json.loads(line) for line in _lines(run_dir / METRICS)]


def _lines(path: Path) -> list[str]:
    """Whole lines of a metrics file; none where there is no file."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_row(line)]


def _is_row(line: str) -> bool:
    try:
        return "step" in json.loads(line)
    except (json.JSONDecodeError, TypeError):
        return False
