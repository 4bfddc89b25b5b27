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
        kept = list(self.path.open(encoding="utf-8")) if self.path.exists() else []
        kept = [line for line in kept if _step_of(line) is not None and _step_of(line) <= resume_step]
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
    path = run_dir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.open(encoding="utf-8") if _step_of(line) is not None]


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
