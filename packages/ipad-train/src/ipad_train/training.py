"""A whole run: its stages one after the other, resumed where it stopped, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from ipad_train.best_models import BestModels
from ipad_train.checkpoint import find_checkpoint, read_state
from ipad_train.clock import RunClock
from ipad_train.config import RunConfig, StageConfig
from ipad_train.config_files import save_config, with_absolute_paths
from ipad_train.data import RunData, load_data
from ipad_train.distributed import on_main_process
from ipad_train.finishing import finish_run
from ipad_train.folder_lock import FolderBusyError, FolderLock
from ipad_train.judging import StageJudge
from ipad_train.launch import describe_machine, make_accelerator, with_launcher_settings
from ipad_train.loop import BetweenSteps, StageLoop
from ipad_train.networks import network_shape
from ipad_train.objectives import objective_of
from ipad_train.position import Position
from ipad_train.progress import save_progress
from ipad_train.rehearsal import rehearse
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.stage_lengths import resolve_stages
from ipad_train.stage_run import StageRun
from ipad_train.stage_start import start_stage
from ipad_train.start import describe_plan, find_starting_weights, leave_out_zoom
from ipad_train.stop_signals import StopSignals
from ipad_train.summary import run_summary, skipped_steps
from ipad_train.tracking import Tracker, check_trackers, read_metrics, read_timings, start_trackers


class Training:
    """One run of a configuration.

    Args:
        config: The run.
        resume: ``auto`` continues the newest whole checkpoint of ``config.output_dir`` where there is one; a path names
            a checkpoint; None starts anew, and refuses a folder that already holds a run.
        announce: Receives a line for the user, on the main process.
        data: The splits that ``config.data`` names, where they are at hand; loaded where None.

    Raises:
        FileExistsError: the output folder holds a run and ``resume`` is None; another process trains in it.
        CheckpointError: the named checkpoint is damaged or of another configuration.
        ValueError: the configuration trains nothing, names what does not exist, or says something else than the launcher.
    """

    def __init__(
        self,
        config: RunConfig,
        resume: str | None,
        announce: Callable[[str], None] = print,
        data: RunData | None = None,
    ) -> None:
        if not config.stages():
            raise ValueError("the configuration trains nothing: stage0, stage1 and stage2 all have 0 steps")
        check_trackers(config.loop.log_with)
        self.dir = Path(config.output_dir)
        self.accelerator = make_accelerator(config, self.dir)
        self.is_main = self.accelerator.is_main_process
        self.announce = announce if self.is_main else lambda line: None
        self.lock = on_main_process(self.accelerator, self._locked)
        try:
            self._prepare(with_launcher_settings(with_absolute_paths(config), self.accelerator), resume, data)
        except BaseException:
            self._release()
            raise

    def _locked(self) -> FolderLock:
        self.dir.mkdir(parents=True, exist_ok=True)
        try:
            return FolderLock(self.dir, "trains in")
        except FolderBusyError as error:
            raise FileExistsError(f"{error}; wait for it, stop it, or take another output_dir") from None

    def _prepare(self, config: RunConfig, resume: str | None, data: RunData | None) -> None:
        """Everything that may be wrong with a run, before its first step."""
        for name, _ in config.stages():
            objective_of(config, name)
        self.position = self._position(resume)
        state = self.position.state
        with self.accelerator.main_process_first():
            data = load_data(config.data) if data is None else data
            config, self.weights, notes = find_starting_weights(config, len(data.schema.attributes))
        config, left_out = leave_out_zoom(config, data)
        config, reduced = resolve_stages(config, data, self.accelerator.num_processes)
        self.notes = state.get("notes", notes + left_out + reduced)
        extended = self.position.check(config, self.accelerator.num_processes)
        rehearse(config, data, network_shape(config, data), self.accelerator.num_processes)
        self.context = RunContext(config, data, self.accelerator, self.announce)
        self.accelerator.wait_for_everyone()
        if self.is_main:
            save_config(config, RunFolder(self.dir).config)
        self.best = BestModels(self.dir, state.get("scores") or {}, self.is_main)
        for line in extended:
            self.announce(line)
            self.best.forget_patience(config.stages()[-1][0])
        images = {name: split.num_rows for name, split in data.splits.items()}
        self.clock = RunClock(config, images["validation"], self.announce, images["train"])
        boards = start_trackers(self.accelerator, state["step"])
        self.tracker = Tracker(self.dir, state["step"], boards) if self.is_main else None
        self.judge = StageJudge(self.context, self.best, self.tracker)

    @property
    def config(self) -> RunConfig:
        """The run as it is trained: lengths in steps, and what its start found."""
        return self.context.config

    @property
    def data(self) -> RunData:
        """Its splits."""
        return self.context.data

    def run(self) -> dict:
        """Train to the end; returns validation results of the best model (MAP in percent by embedding).

        SIGTERM and SIGINT finish the step and save; once all stages are trained and saved they end the process at once.
        """
        try:
            try:
                with StopSignals(self.accelerator) as signals:
                    self._run_stages(signals)
            finally:
                if self.tracker is not None:
                    self.tracker.close()
            return self._finish()
        finally:
            self._release()

    def _finish(self) -> dict:
        started = time.perf_counter()
        results = finish_run(self.context, self.best, self.notes)
        if self.is_main:
            skipped, seconds = skipped_steps(read_metrics(self.dir)), time.perf_counter() - started
            for line in run_summary(results, read_timings(self.dir), skipped, seconds):
                self.announce(line)
        return results

    def _release(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def _run_stages(self, signals: StopSignals) -> None:
        self.announce(describe_machine(self.accelerator, self.config))
        if (before := self.position.state.get("threads", torch.get_num_threads())) != torch.get_num_threads():
            self.announce(f"the run had {before} threads until here: it goes on, but not bit for bit as it would have")
        for line in [*self.notes, *describe_plan(self.config, self.data, self.weights)]:
            self.announce(line)
        stages = self.config.stages()
        names = [name for name, _ in stages]
        first = names.index(self.position.stage) if self.position.stage else 0
        offset = sum(stage.steps for _, stage in stages[:first])
        for place, (name, stage) in enumerate(stages[first:], start=first):
            resuming = place == first and self.position.checkpoint is not None
            run = self._start_stage(name, stage, offset, resuming)
            self.announce(f"{name}: {stage.steps} steps of {stage.batch_size}, from step {run.step}")
            between = BetweenSteps(
                self.judge.judge, self._save, signals.requested, self.clock.step_done, self.clock.left
            )
            if not StageLoop(run, self.accelerator, self.config.loop, between, self.tracker).train():
                self.announce(f"stopped at step {run.step} of {name}; --resume auto continues there")
                raise SystemExit(signals.exit_code)
            self.accelerator.wait_for_everyone()
            self.accelerator.free_memory()
            offset += stage.steps

    def _start_stage(self, name: str, stage: StageConfig, offset: int, resuming: bool) -> StageRun:
        run = start_stage(self.context, name, stage, offset, self.position if resuming else None)
        run.ended = resuming and self.best.is_exhausted(name, self.config.loop.patience)
        return run

    def _save(self, run: StageRun) -> None:
        save_progress(run, self.context, {"scores": self.best.scores, "notes": self.notes})

    def _position(self, resume: str | None) -> Position:
        if resume is None:
            on_main_process(self.accelerator, self._check_that_it_is_empty)
            return Position.beginning()
        found = find_checkpoint(self.dir) if resume == "auto" else Path(resume)
        if found is None:
            self.announce(f"no checkpoint in {self.dir}: starting from the beginning")
            return Position.beginning()
        return Position(found, read_state(found))

    def _check_that_it_is_empty(self) -> None:
        if read_metrics(self.dir) or find_checkpoint(self.dir) is not None:
            raise FileExistsError(f"{self.dir} already holds a run; use --resume auto, or another output_dir")
