"""The best weights that validation saw: of every stage in ``stages/stageN``, of the whole run in ``best``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import recover_folder, replace_folder, write_json
from ipad_train.config import STAGE_NAMES

SCORE = "score.json"  # beside a kept model: of which stage and step it is, and its validation MAP


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
        self.run_dir, self.is_main = run_dir, is_main
        self.scores = {stage: dict(score) for stage, score in scores.items()}
        if is_main:
            for folder in [run_dir / "best", *(run_dir / "stages" / name for name in STAGE_NAMES)]:
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
            replace_folder(self.run_dir / "stages" / stage, lambda folder: self._write(stage, model, folder))
            if self.stage == stage:
                self.deliver(stage)
        return True

    def replace(self, stage: str, validation_map: float, model: AttributeEmbedder) -> None:
        """Set a stage's model and score once all of validation has judged it, e.g. with another beta."""
        self.scores[stage] = {**self.scores[stage], "map": validation_map}
        if self.is_main:
            replace_folder(self.run_dir / "stages" / stage, lambda folder: self._write(stage, model, folder))

    def deliver(self, stage: str) -> None:
        """Make a stage's model the run's."""
        if self.is_main:
            source = self.run_dir / "stages" / stage
            replace_folder(self.run_dir / "best", lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True))

    def is_exhausted(self, stage: str, patience: int) -> bool:
        """Whether a stage had ``patience`` evaluations in a row without a better one; never where patience is 0."""
        return bool(patience) and self.scores.get(stage, {"stale": 0})["stale"] >= patience

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


def stage_folders(run_dir: Path) -> dict[str, Path]:
    """By name, the stages of a run that hold a model, in order."""
    folders = sorted((run_dir / "stages").glob("stage*"))
    return {folder.name: folder for folder in folders if (folder / "config.json").is_file()}


def delivered_stage(run_dir: Path) -> str | None:
    """The stage whose model ``best`` holds; None where the folder does not say, and so nothing of the stages is known."""
    path = run_dir / "best" / SCORE
    return json.loads(path.read_text(encoding="utf-8"))["stage"] if path.is_file() else None
