"""What a run writes while it trains: one JSON object a line, and the same in other trackers.

``metrics.jsonl`` holds what training came to; a run that was killed and resumed leaves the same file to the letter. (One
that was asked to stop has a row of the step at which it did.)
``timings.jsonl`` beside it holds how long it took.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from ipad_train.run_folder import RunFolder


class Tracker:
    """Append-only record of a run.

    Args:
        run_dir: Folder of the run.
        resume_step: Global step that the run continues from: later lines, of work that was lost, are removed.
        boards: Accelerate's trackers, which get the same.
    """

    def __init__(self, run_dir: Path, resume_step: int = 0, boards: Sequence[GeneralTracker] = ()) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._metrics = JsonLines(RunFolder(run_dir).metrics, resume_step)
        self._timings = JsonLines(RunFolder(run_dir).timings, resume_step)
        self._boards = boards

    def log(self, step: int, stage: str, values: Mapping[str, float]) -> None:
        """Record named numbers of a global step; non-finite ones are written as null."""
        row = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._metrics.write({"step": step, "stage": stage, **row})
        self._tell_boards(values, step)

    def event(self, step: int, stage: str, text: str) -> None:
        """Record something that happened once."""
        self._metrics.write({"step": step, "stage": stage, "event": text})
        self._tell_boards({"event": text}, step)

    def time(
        self,
        step: int,
        stage: str,
        steps: int,
        elapsed: float,
        seconds: Mapping[str, float],
        speed: float | None,
        memory: float | None = None,
    ) -> None:
        """Record how long something took.

        Args:
            step: Global step at its end.
            stage: Name of the stage.
            steps: Steps in it.
            elapsed: Seconds of the clock.
            seconds: Of its parts.
            speed: Images a second of its steps; None where it has none.
            memory: The most memory of the GPU so far, GiB; None without a GPU.
        """
        rounded = {name: round(value, 6) for name, value in seconds.items()}
        row = {"step": step, "stage": stage, "steps": steps, "elapsed": round(elapsed, 6), "seconds": rounded}
        found = {"images_per_second": speed, "gpu_memory": memory}
        found = {name: round(value, 3) for name, value in found.items() if value is not None}
        self._timings.write(row | found)
        if found:
            self._tell_boards(found, step)

    def close(self) -> None:
        """Flush to disk."""
        self._metrics.close()
        self._timings.close()
        for board in self._boards:
            board.finish()

    def _tell_boards(self, values: Mapping, step: int) -> None:
        for board in self._boards:
            board.log(values, step=step)


class JsonLines:
    """A file of JSON objects, one a line, each with its global ``step``; what comes after ``resume_step`` is removed."""

    def __init__(self, path: Path, resume_step: int) -> None:
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= resume_step]
        beside = path.with_name(f".{path.name}.partial")
        beside.write_text("".join(kept), encoding="utf-8")
        beside.replace(path)
        self._path = path

    def write(self, row: dict) -> None:
        """Append an object.

        The file is open only meanwhile: torch raises in the middle of any code where a worker dies, also where files are
        being closed.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Flush to disk."""
        with self._path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


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
    return [json.loads(line) for line in _lines(RunFolder(run_dir).metrics)]


def read_timings(run_dir: Path) -> list[dict]:
    """Rows of ``timings.jsonl``, as :meth:`Tracker.time` writes them; none where a run is older than that file."""
    return [json.loads(line) for line in _lines(RunFolder(run_dir).timings)]


def _lines(path: Path) -> list[str]:
    """Whole lines of a file of metrics; none where there is no file."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if _is_row(line)]


def _is_row(line: str) -> bool:
    try:
        return "step" in json.loads(line)
    except (json.JSONDecodeError, TypeError):
        return False
