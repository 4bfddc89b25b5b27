"""The best weights that validation saw: of every stage in ``stages/stageN``, of the whole run in ``best``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import recover_folder, replace_folder, write_json
from ipad_train.config import STAGE_NAMES
from ipad_train.run_folder import SCORE, RunFolder


class BestModels:
    """Keeps what a run will deliver while it trains.

    A stage's model counts by the MAP of what it would deliver: the fused embedding where there are two branches. The
    stage's own best goes on to the next stage; the best of all stages is the run's.

    Args:
        run_dir: Folder of the run.
        scores: By stage ``{"map", "step", "stale"}``, as :attr:`scores` of an earlier object; ``stale`` counts the
            evaluations since the best.
        is_main: Whether this process writes.
    """

    def __init__(self, run_dir: Path, scores: dict[str, dict[str, Any]], is_main: bool) -> None:
        self.folder, self.is_main = RunFolder(run_dir), is_main
        self.scores = {stage: dict(score) for stage, score in scores.items()}
        if is_main:
            for folder in [self.folder.best, *map(self.folder.stage, STAGE_NAMES)]:
                recover_folder(folder)

    @property
    def stage(self) -> str | None:
        """The stage whose model is the best; the earlier one of equals."""
        return max(self.scores, key=lambda stage: self.scores[stage]["map"], default=None)

    def offer(self, stage: str, step: int, validation_map: float, model: AttributeEmbedder) -> bool:
        """Take in a stage's evaluation; returns whether it is the stage's best so far, whose model is then kept."""
        mine = self.scores.get(stage)
        if mine is not None and validation_map <= mine["map"]:
            mine["stale"] += 1
            return False
        self.scores[stage] = {"map": validation_map, "step": step, "stale": 0}
        if self.is_main:
            replace_folder(self.folder.stage(stage), lambda folder: self._write(stage, model, folder))
            if self.stage == stage:
                self.deliver(stage)
        return True

    def replace(self, stage: str, validation_map: float, model: AttributeEmbedder) -> None:
        """Set a stage's model and score once all of validation has judged it, e.g. with another beta."""
        self.scores[stage] = {**self.scores[stage], "map": validation_map}
        if self.is_main:
            replace_folder(self.folder.stage(stage), lambda folder: self._write(stage, model, folder))

    def deliver(self, stage: str) -> None:
        """Make a stage's model the run's."""
        if self.is_main:
            source = self.folder.stage(stage)
            replace_folder(self.folder.best, lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True))

    def is_exhausted(self, stage: str, patience: int) -> bool:
        """Whether a stage had ``patience`` evaluations in a row without a better one; never where patience is 0."""
        return bool(patience) and self.scores.get(stage, {"stale": 0})["stale"] >= patience

    def forget_patience(self, stage: str) -> None:
        """Count a stage's evaluations without a better one anew, as it goes on."""
        if stage in self.scores:
            self.scores[stage]["stale"] = 0

    def setback(self, stage: str) -> str | None:
        """What to tell the user where a stage's best is below that of a stage before it."""
        earlier = {name: score["map"] for name, score in self.scores.items() if name < stage}
        if stage not in self.scores or not earlier:
            return None
        before = max(earlier, key=earlier.get)
        mine = self.scores[stage]["map"]
        if mine >= earlier[before]:
            return None
        return (
            f"{stage} ends BELOW {before}: {mine:.2f} after {earlier[before]:.2f} % validation MAP. What {before} knew "
            f"was lost, and best/ keeps {before}'s model. Try a lower {stage}.learning_rate (a third, then a tenth), more "
            f"{stage}.epochs, or loop.eval_every and loop.patience to stop {stage} where it is best; with fewer than 100 "
            "validation queries such a difference may be chance."
        )

    def _write(self, stage: str, model: AttributeEmbedder, folder: Path) -> None:
        model.save_pretrained(folder)
        score = self.scores[stage]
        write_json(folder / SCORE, {"stage": stage, "step": score["step"], "validation_map": score["map"]})
