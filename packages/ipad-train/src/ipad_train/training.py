"""A whole run: its stages one after the other, resumed where it stopped, and what it leaves behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ipad_core import AttributeEmbedder
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.best_models import BestModels
from ipad_train.chance import stuck_attributes
from ipad_train.checkpoint import (
    CheckpointError,
    find_checkpoint,
    read_state,
    write_checkpoint,
)
from ipad_train.clock import RunClock
from ipad_train.config import RunConfig, StageConfig
from ipad_train.config_files import save_config, with_absolute_paths
from ipad_train.data import RunData, load_data, stage_batches
from ipad_train.distributed import average_buffers
from ipad_train.evaluate import evaluate_split
from ipad_train.finishing import embed_validation, finish_run
from ipad_train.kept_crops import can_keep_crops, keep_crops
from ipad_train.kept_maps import can_keep_maps, keep_maps, maps_dir
from ipad_train.launch import describe_machine, make_accelerator
from ipad_train.loop import StageRun, run_stage
from ipad_train.networks import make_model, make_objective
from ipad_train.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors
from ipad_train.randomness import random_state, restore_random_state, set_seed
from ipad_train.run_lock import RunLock
from ipad_train.stage_lengths import resolve_stages
from ipad_train.start import describe_plan, find_starting_weights
from ipad_train.step_inputs import AugmentedImages, MapsOfImages, StepInputs
from ipad_train.tracking import Tracker, read_metrics


class Training:
    """One run of a configuration.

    Args:
        config: The run.
        resume: ``auto`` continues the newest whole checkpoint of ``config.output_dir`` where there is one; a path names
            a checkpoint; None starts anew, and refuses a folder that already holds a run.
        announce: Receives a line for the user, on the main process.

    Raises:
        FileExistsError: the output folder holds a run and ``resume`` is None; another process trains in it.
        CheckpointError: the named checkpoint is damaged or of another configuration.
    """

    def __init__(self, config: RunConfig, resume: str | None, announce: Callable[[str], None] = print) -> None:
        if not config.stages():
            raise ValueError("the configuration trains nothing: stage0, stage1 and stage2 all have 0 steps")
        self.dir = Path(config.output_dir)
        self.accelerator = make_accelerator(config)
        self.is_main = self.accelerator.is_main_process
        self.announce = announce if self.is_main else lambda line: None
        self._stop = False
        self.lock = None
        if self.is_main:
            self.dir.mkdir(parents=True, exist_ok=True)
            self.lock = RunLock(self.dir)
        try:
            self._prepare(with_absolute_paths(config), resume)
        except BaseException:
            self._release()
            raise

    def _prepare(self, config: RunConfig, resume: str | None) -> None:
        """Everything that may be wrong with a run, before its first step."""
        self.checkpoint = self._checkpoint_to_resume(resume)
        self.state = read_state(self.checkpoint) if self.checkpoint else {"stage": None, "stage_step": 0, "step": 0}
        with self.accelerator.main_process_first():
            self.data: RunData = load_data(config.data)
            config, self.weights, self.notes = find_starting_weights(config, len(self.data.schema.attributes))
        self.config, reduced = resolve_stages(config, self.data, self.accelerator.num_processes)
        self.notes = self.state.get("notes", self.notes + reduced)
        self._check_state()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            save_config(self.config, self.dir / "config.yaml")
        self.best = BestModels(self.dir, self.state.get("scores") or {}, self.is_main)
        self.clock = RunClock(self.config, self.data.splits["validation"].num_rows, self.announce)
        self.tracker = Tracker(self.dir, self.state["step"]) if self.is_main else None

    def run(self) -> dict:
        """Train to the end; returns validation results of the best model (MAP in percent by embedding).

        SIGTERM and SIGINT finish the step and save; once all stages are trained and saved they end the process at once.
        """
        try:
            previous = {
                number: signal.signal(number, self._request_stop) for number in (signal.SIGTERM, signal.SIGINT)
            }
            try:
                self._run_stages()
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)
                if self.tracker is not None:
                    self.tracker.close()
            return finish_run(self.dir, self.config, self.data, self.best, self.accelerator, self.announce, self.notes)
        finally:
            self._release()

    def _release(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def _run_stages(self) -> None:
        self.announce(describe_machine(self.accelerator, self.config))
        if (before := self.state.get("threads", torch.get_num_threads())) != torch.get_num_threads():
            self.announce(f"the run had {before} threads until here: it goes on, but not bit for bit as it would have")
        for line in [*self.notes, *describe_plan(self.config, self.data, self.weights)]:
            self.announce(line)
        stages = self.config.stages()
        names = [name for name, _ in stages]
        first = names.index(self.state["stage"]) if self.state["stage"] else 0
        offset = sum(stage.steps for _, stage in stages[:first])
        for position, (name, stage) in enumerate(stages[first:], start=first):
            resuming = position == first and self.checkpoint is not None
            run = self._start_stage(name, stage, offset, resuming)
            self.announce(f"{name}: {stage.steps} steps of {stage.batch_size}, from step {run.step}")
            finished = run_stage(
                run, self.accelerator, self.config.loop, self.tracker, self._evaluate, self._save, self._stop_requested,
                self.clock.step_done,
            )  # fmt: skip
            if not finished:
                self.announce(f"stopped at step {run.step} of {name}; --resume auto continues there")
                raise SystemExit(143)
            self.accelerator.wait_for_everyone()
            self.accelerator.free_memory()
            offset += stage.steps

    # -- one stage ------------------------------------------------------------------------------------------------

    def _start_stage(self, name: str, stage: StageConfig, offset: int, resuming: bool) -> StageRun:
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        seed = self.config.seed * 10 + int(name[-1])
        set_seed(seed * 1000 + rank)
        torch.manual_seed(seed)  # equal initial weights on every process
        model = make_model(self.config, name, self.data, self.dir)
        model.schema = self.data.schema.values  # so that the trained model can be asked by name
        step = 0
        if resuming:
            model = type(model).from_pretrained(self.checkpoint / "model")
            step = self.state["stage_step"]
        objective = make_objective(self.config, name, stage, model, self.data)
        if self.config.loop.channels_last and self.accelerator.device.type == "cuda":
            objective.to(memory_format=torch.channels_last)
        if self.config.loop.compile:
            model.compile()
        objective.to(self.accelerator.device)
        optimizer = build_optimizer(objective, stage)
        if self.accelerator.state.deepspeed_plugin is not None:
            per_process = max(1, stage.batch_size // world_size)
            self.accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = per_process
        objective, optimizer = self.accelerator.prepare(objective, optimizer)
        set_seed(seed * 1000 + rank)
        if resuming:
            self._load_progress(objective, optimizer)
        inputs, with_images = self._inputs(name, stage, model)
        batches = stage_batches(
            self.data, self.config, stage, seed, step, rank, world_size, self.accelerator.device.type == "cuda",
            with_images,
        )  # fmt: skip
        for line in getattr(self.accelerator.unwrap_model(objective), "announcements", list)():
            self.announce(line)
        ended = resuming and self.best.is_exhausted(name, self.config.loop.patience)
        attributes = self.data.schema.attributes
        return StageRun(name, stage, objective, optimizer, batches, inputs, offset, step, seed, ended, attributes)

    def _inputs(self, name: str, stage: StageConfig, model: AttributeEmbedder) -> tuple[StepInputs, bool]:
        """What a step trains on, and whether it needs the images decoded."""
        data = self.config.data
        if can_keep_maps(model, data):
            maps = keep_maps(
                model, self.data.splits["train"], data, maps_dir(self.config), self.accelerator, True, self.announce
            )
            crops = None
            if name == "stage2" and can_keep_crops(model, self.config):
                train = self.data.splits["train"]
                crops = keep_crops(model, train, maps, self.config, self.accelerator, self.announce)
            return MapsOfImages(maps, data.flip, crops), name == "stage2" and crops is None
        views = None
        if data.anchor_views and stage.sampler == "triplet":
            views = AnchorViews(BatchAugmentation(**data.anchor_augmentation), data.anchor_views)
        return AugmentedImages(BatchAugmentation(flip=data.flip, **data.augmentation), views), True

    # -- evaluation and checkpoints ---------------------------------------------------------------------------------

    def _evaluate(self, run: StageRun) -> bool:
        """Judge a stage on validation; returns whether it has been without progress for long enough to end."""
        model = self._model(run)
        queries = self.config.loop.eval_max_queries
        embedded = embed_validation(model, self.data, self.config, self.accelerator, queries)
        results = evaluate_split(
            model, self.data, "validation", self.config, self.accelerator, embedded=embedded, max_queries=queries
        )
        random, row = results["rows"][0], results["rows"][-1]
        step, stuck = run.offset + run.step, stuck_attributes(row["attributes"], random["attributes"])
        run.stuck = len(stuck)
        if self.tracker is not None:
            values = {"MAP": row["overall"], "stuck": len(stuck), **row["attributes"]}
            values = {f"validation/{name}": value for name, value in values.items()}
            self.tracker.log(step, run.name, values | {f"random/{k}": v for k, v in random["attributes"].items()})
        at_chance = f"; at chance: {', '.join(stuck)}" if stuck else ""
        self.announce(f"{run.name} step {run.step}: validation MAP {row['overall']:.2f} %{at_chance}")
        self.best.offer(run.name, step, row["overall"], model)
        self.accelerator.wait_for_everyone()
        patience = self.config.loop.patience
        ended = self.best.is_exhausted(run.name, patience) and run.step < run.stage.steps
        if ended:
            best = self.best.scores[run.name]
            self._tell(
                run, f"{run.name} ends early at step {run.step} of {run.stage.steps}: no better validation MAP in "
                f"{patience} evaluations; its best is {best['map']:.2f} % at step {best['step'] - run.offset}",
            )  # fmt: skip
        if (ended or run.step == run.stage.steps) and (setback := self.best.setback(run.name)):
            self._tell(run, f"WARNING: {setback}")
        return ended

    def _tell(self, run: StageRun, text: str) -> None:
        """Say something to the user, and keep it in the metrics."""
        self.announce(text)
        if self.tracker is not None:
            self.tracker.event(run.offset + run.step, run.name, text)

    def _save(self, run: StageRun) -> None:
        average_buffers(run.objective)
        objective = self.accelerator.unwrap_model(run.objective)
        rank = self.accelerator.process_index
        state = {
            "stage": run.name, "stage_step": run.step, "scores": self.best.scores, "config": self.config.to_dict(),
            "world_size": self.accelerator.num_processes, "threads": torch.get_num_threads(), "notes": self.notes,
        }  # fmt: skip

        def write_shared(folder: Path) -> None:
            objective.model.save_pretrained(folder / "model")
            save_file(_objective_tensors(objective), folder / "objective.safetensors")

        def write_own(folder: Path) -> None:
            save_file(_contiguous(optimizer_tensors(run.optimizer)), folder / f"optimizer-{rank}.safetensors")
            save_file(random_state(), folder / f"random-{rank}.safetensors")

        write_checkpoint(
            self.dir, run.offset + run.step, state, write_shared, write_own,
            keep=self.config.loop.keep_checkpoints, is_main=self.is_main, barrier=self.accelerator.wait_for_everyone,
        )  # fmt: skip

    def _load_progress(self, objective, optimizer) -> None:
        inner = self.accelerator.unwrap_model(objective)
        rank = self.accelerator.process_index
        tensors = load_file(self.checkpoint / "objective.safetensors")
        missing = set(_objective_tensors(inner)) ^ set(tensors)
        if missing:
            raise CheckpointError(
                f"{self.checkpoint} is of another configuration: it differs in {sorted(missing)[:4]}"
            )
        inner.load_state_dict(tensors, strict=False)
        load_optimizer_tensors(optimizer, load_file(self.checkpoint / f"optimizer-{rank}.safetensors"))
        restore_random_state(load_file(self.checkpoint / f"random-{rank}.safetensors"))

    def _model(self, run: StageRun) -> AttributeEmbedder:
        average_buffers(run.objective)
        return self.accelerator.unwrap_model(run.objective).model

    # -- resuming and stopping --------------------------------------------------------------------------------------

    def _checkpoint_to_resume(self, resume: str | None) -> Path | None:
        if resume is None:
            if self.is_main and (read_metrics(self.dir) or find_checkpoint(self.dir)):
                raise FileExistsError(f"{self.dir} already holds a run; use --resume auto, or another output_dir")
            return None
        if resume != "auto":
            return Path(resume)
        found = find_checkpoint(self.dir)
        if found is None:
            self.announce(f"no checkpoint in {self.dir}: starting from the beginning")
        return found

    def _check_state(self) -> None:
        saved = self.state.get("config")
        if saved is None:
            return
        ours = json.loads(json.dumps(self.config.to_dict()))
        for free in ("output_dir", "loop", "rerank"):
            saved.pop(free), ours.pop(free)
        for free in ("num_workers", "keep_maps", "maps_dir"):
            saved["data"].pop(free, None), ours["data"].pop(free)
        different = [key for key in ours if ours[key] != saved[key]]
        if different:
            raise CheckpointError(
                f"{self.checkpoint} is of another configuration: {', '.join(different)} differ; resume with the run's "
                "own config.yaml, or start anew in another output_dir"
            )
        if self.state["world_size"] != self.accelerator.num_processes:
            raise CheckpointError(
                f"{self.checkpoint} was written by {self.state['world_size']} processes, this run has "
                f"{self.accelerator.num_processes}; resume with as many"
            )

    def _request_stop(self, number: int, frame) -> None:
        self._stop = True

    def _stop_requested(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self._stop
        flag = torch.tensor([int(self._stop)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())


def _objective_tensors(objective: torch.nn.Module) -> dict[str, torch.Tensor]:
    """State of an objective beside the model: momentum encoder, queues, centers."""
    state = {name: t for name, t in objective.state_dict().items() if not name.startswith("model.")}
    return _contiguous(state)


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
