"""The folder of a run: what lies in it, and under which names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipad_train.checkpoint import find_checkpoint
from ipad_train.tracking import METRICS, read_metrics


@dataclass(frozen=True)
class RunFolder:
    """Names in a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration of the run, resolved."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Losses, evaluations and events, a JSON object a line."""
        return self.path / METRICS

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

    @property
    def holds_a_run(self) -> bool:
        """Whether a run wrote metrics or a checkpoint here."""
        return bool(read_metrics(self.path)) or find_checkpoint(self.path) is not None
