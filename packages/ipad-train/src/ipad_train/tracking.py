"""What a run writes while it trains: one JSON object a line in ``metrics.jsonl``, and the same in TensorBoard."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class Tracker:
    """Append-only record of a run.

    Args:
        run_dir: Folder of the run.
        resume_step: Global step that the run continues from: later lines, of work that was lost, are removed.
    """

    def __init__(self, run_dir: Path, resume_step: int = 0) -> None:
        self.path = run_dir / "metrics.jsonl"
        run_dir.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(self.path) if json.loads(line)["step"] <= resume_step]
        beside = self.path.with_name(".metrics.jsonl.partial")
        beside.write_text("".join(kept), encoding="utf-8")
        beside.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(run_dir / "tensorboard", purge_step=resume_step + 1 if resume_step else None)

    def log(self, step: int, stage: str, values: dict[str, float]) -> None:
        """Record named numbers of a global step; non-finite ones are written as null."""
        row = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._file.write(json.dumps({"step": step, "stage": stage, **row}) + "\n")
        self._file.flush()
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def event(self, step: int, stage: str, text: str) -> None:
        """Record something that happened once."""
        self._file.write(json.dumps({"step": step, "stage": stage, "event": text}) + "\n")
        self._file.flush()
        self._board.add_text("event", text, step)

    def close(self) -> None:
        """Flush to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._board.close()


def read_metrics(run_dir: Path) -> list[dict]:
    """Rows of ``metrics.jsonl``; a half-written last line is left out."""
    return [json.loads(line) for line in _lines(run_dir / "metrics.jsonl")]


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
