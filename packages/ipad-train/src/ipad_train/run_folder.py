"""The folder of a run: what lies in it, under which names, and how it is opened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"
MODEL_CONFIG = "config.json"  # of a saved model
COMPARISON = "comparison.json"  # of a folder with the runs of several networks
SCORE = "score.json"  # beside a kept model: of which stage and step it is, and its validation MAP


@dataclass(frozen=True)
class RunFolder:
    """Names in a run's folder.

    Example:
        >>> RunFolder(Path("runs/tiny")).best.as_posix()
        'runs/tiny/best'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration of the run, resolved."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """Losses, evaluations and events, a JSON object a line."""
        return self.path / METRICS

    @property
    def timings(self) -> Path:
        """Seconds of every part of training, a JSON object a line."""
        return self.path / TIMINGS

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def maps(self) -> Path:
        """What a frozen trunk makes of the images, while the run trains."""
        return self.path / "maps"

    @property
    def stages(self) -> Path:
        """Folder of the best model of every stage."""
        return self.path / "stages"

    def stage(self, name: str) -> Path:
        """The best model of a stage."""
        return self.stages / name

    @property
    def best(self) -> Path:
        """The model that the run delivers."""
        return self.path / "best"

    @property
    def reasoner(self) -> Path:
        """Re-ranking, where validation keeps it."""
        return self.path / "reasoner"

    @property
    def validation(self) -> Path:
        """Results of the end of the run."""
        return self.path / "validation.json"

    def evaluation(self, split: str, suffix: str = "json") -> Path:
        """Results of a split, as ``json`` or ``md``."""
        return self.path / f"evaluation-{split}.{suffix}"

    @property
    def speed(self) -> Path:
        """Images a second of training, where a comparison measured it."""
        return self.path / "speed.json"

    @property
    def export(self) -> Path:
        """The delivered model for other runtimes."""
        return self.path / "export"

    @property
    def report(self) -> Path:
        """The page on the run."""
        return self.path / "report.html"

    @property
    def is_configured(self) -> bool:
        """Whether a run began here."""
        return self.config.is_file()

    def trained_stages(self) -> dict[str, Path]:
        """By name, the stages that hold a model, in order."""
        folders = sorted(self.stages.glob("stage*"))
        return {folder.name: folder for folder in folders if (folder / MODEL_CONFIG).is_file()}

    def delivered_stage(self) -> str | None:
        """The stage whose model ``best`` holds; None where the folder does not say: nothing of the stages is known then."""
        path = self.best / SCORE
        return json.loads(path.read_text(encoding="utf-8"))["stage"] if path.is_file() else None

    def results(self) -> dict[str, Any] | None:
        """What ``validation.json`` holds; None where the run has not ended."""
        return json.loads(self.validation.read_text(encoding="utf-8")) if self.validation.is_file() else None


def model_folder(source: Path) -> Path:
    """Where a folder holds a saved model: a run's ``best``, or the folder itself."""
    best = RunFolder(source).best
    return best if (best / MODEL_CONFIG).is_file() else source
