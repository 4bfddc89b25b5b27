"""Evaluations while a run trains: how good a stage is, and whether it should go on."""

from __future__ import annotations

from dataclasses import dataclass

from ipad_train.best_models import BestModels
from ipad_train.chance import stuck_attributes
from ipad_train.evaluate import evaluate_split
from ipad_train.finishing import embed_validation
from ipad_train.run_context import RunContext
from ipad_train.stage_run import StageRun
from ipad_train.tracking import Tracker


@dataclass(frozen=True)
class StageJudge:
    """Judges stages on validation, and keeps the best model of each.

    Args:
        context: The run.
        best: Keeps the models.
        tracker: Records the results; None on all processes but the main one.
    """

    context: RunContext
    best: BestModels
    tracker: Tracker | None

    def judge(self, run: StageRun) -> bool:
        """Evaluate a stage; returns whether it has been without progress for long enough to end."""
        accelerator, queries = self.context.accelerator, self.context.config.loop.eval_max_queries
        model = accelerator.unwrap_model(run.objective).model
        embedded = embed_validation(model, self.context, queries)
        results = evaluate_split(model, self.context, "validation", embedded=embedded, max_queries=queries)
        random, row = results["rows"][0], results["rows"][-1]
        step, stuck = run.offset + run.step, stuck_attributes(row["attributes"], random["attributes"])
        run.stuck = len(stuck)
        if self.tracker is not None:
            values = {"MAP": row["overall"], "stuck": len(stuck), **row["attributes"]}
            values = {f"validation/{name}": value for name, value in values.items()}
            self.tracker.log(step, run.name, values | {f"random/{k}": v for k, v in random["attributes"].items()})
        at_chance = f"; at chance: {', '.join(stuck)}" if stuck else ""
        self.context.announce(f"{run.name} step {run.step}: validation MAP {row['overall']:.2f} %{at_chance}")
        self.best.offer(run.name, step, row["overall"], model)
        accelerator.wait_for_everyone()
        return self._ends(run)

    def _ends(self, run: StageRun) -> bool:
        patience = self.context.config.loop.patience
        ended = self.best.is_exhausted(run.name, patience) and run.step < run.stage.steps
        if ended:
            best = self.best.scores[run.name]
            self._tell(
                run,
                f"{run.name} ends early at step {run.step} of {run.stage.steps}: no better validation MAP in "
                f"{patience} evaluations; its best is {best['map']:.2f} % at step {best['step'] - run.offset}",
            )
        if (ended or run.step == run.stage.steps) and (setback := self.best.setback(run.name)):
            self._tell(run, f"WARNING: {setback}")
        return ended

    def _tell(self, run: StageRun, text: str) -> None:
        """Say something to the user, and keep it in the metrics."""
        self.context.announce(text)
        if self.tracker is not None:
            self.tracker.event(run.offset + run.step, run.name, text)
