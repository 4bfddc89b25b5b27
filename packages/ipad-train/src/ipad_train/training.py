"""A whole run: its stages one after the other, resumed where it stopped, and what it leaves behind."""

from __future__ import annotations

import json
import random
import signal
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ipad_core import AttributeEmbedder
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.checkpoint import (
    CheckpointError,
    find_checkpoint,
    read_state,
    recover_folder,
    replace_folder,
    write_checkpoint,
    write_json,
)
from ipad_train.config import RunConfig
from ipad_train.config_files import load_config, save_config
from ipad_train.data import RunData, load_data, stage_batches
from ipad_train.distributed import average_buffers
from ipad_train.embed import embed_split
from ipad_train.evaluate import choose_beta, evaluate_split, map_table, with_beta
from ipad_train.launch import make_accelerator
from ipad_train.loop import StageRun, run_stage
from ipad_train.networks import make_model, make_objective
from ipad_train.optim import build_optimizer, load_optimizer_tensors, optimizer_tensors
from ipad_train.reranking import fit_reasoner
from ipad_train.stage_lengths import resolve_stages
from ipad_train.tracking import Tracker


class Training:
    """One run of a configuration.

    Args:
        config: The run.
        resume: ``auto`` continues the newest whole checkpoint of ``config.output_dir`` where there is one; a path names
            a checkpoint; None starts anew, and refuses a folder that already holds a run.
        announce: Receives a line for the user, on the main process.

    Raises:
        FileExistsError: the output folder holds a run and ``resume`` is None.
        CheckpointError: the named checkpoint is damaged or of another configuration.
    """

    def __init__(self, config: RunConfig, resume: str | None, announce: Callable[[str], None] = print) -> None:
        if not config.stages():
            raise ValueError("the configuration trains nothing: stage0, stage1 and stage2 all have 0 steps")
        self.dir = Path(config.output_dir)
        self.accelerator = make_accelerator(config)
        self.is_main = self.accelerator.is_main_process
        self.announce = announce if self.is_main else lambda line: None
        self.checkpoint = self._checkpoint_to_resume(resume)
        self.state = read_state(self.checkpoint) if self.checkpoint else {"stage": None, "stage_step": 0, "step": 0}
        with self.accelerator.main_process_first():
            self.data: RunData = load_data(config.data)
        self.config, reduced = resolve_stages(config, self.data, self.accelerator.num_processes)
        for line in reduced:
            self.announce(line)
        self._check_state()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            self.dir.mkdir(parents=True, exist_ok=True)
            recover_folder(self.dir / "best")
            save_config(self.config, self.dir / "config.yaml")
        self.best: dict = self.state.get("best") or {}
        self.tracker = Tracker(self.dir, self.state["step"]) if self.is_main else None
        self._stop = False

    def run(self) -> dict:
        """Train to the end; returns validation results of the best model (MAP in percent by embedding)."""
        previous = {number: signal.signal(number, self._request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run_stages()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            if self.tracker is not None:
                self.tracker.close()

    def _run_stages(self) -> dict:
        kind, count = self.accelerator.distributed_type.value, self.accelerator.num_processes
        self.announce(f"{count} process{'es' if count > 1 else ''}, {kind}, {self.accelerator.device}")
        stages = self.config.stages()
        names = [name for name, _ in stages]
        first = names.index(self.state["stage"]) if self.state["stage"] else 0
        offset = sum(stage.steps for _, stage in stages[:first])
        for position, (name, stage) in enumerate(stages[first:], start=first):
            resuming = position == first and self.checkpoint is not None
            run = self._start_stage(name, stage, position, offset, resuming)
            self.announce(f"{name}: {stage.steps} steps of {stage.batch_size}, from step {run.step}")
            finished = run_stage(
                run, self.accelerator, self.config.loop, self.tracker, self._evaluate, self._save, self._stop_requested
            )
            if not finished:
                self.announce(f"stopped at step {run.step} of {name}; --resume auto continues there")
                raise SystemExit(143)
            self._finish_stage(run)
            offset += stage.steps
        return self._finish()

    # -- one stage ------------------------------------------------------------------------------------------------

    def _start_stage(self, name, stage, position, offset, resuming) -> StageRun:
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        seed = self.config.seed * 10 + int(name[-1])
        set_seed(seed * 1000 + rank)
        torch.manual_seed(seed)  # equal initial weights on every process
        model = make_model(self.config, name, self.data, self.dir)
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
        data = self.config.data
        augmentation = BatchAugmentation(flip=data.flip, **data.augmentation)
        views = None
        if data.anchor_views and stage.sampler == "triplet":
            views = AnchorViews(BatchAugmentation(**data.anchor_augmentation), data.anchor_views)
        batches = stage_batches(
            self.data, self.config, stage, seed, step, rank, world_size, self.accelerator.device.type == "cuda"
        )
        for line in getattr(self.accelerator.unwrap_model(objective), "announcements", list)():
            self.announce(line)
        return StageRun(name, stage, objective, optimizer, batches, augmentation, offset, step, seed, views)

    def _finish_stage(self, run: StageRun) -> None:
        model = self._model(run)
        if self.is_main:
            replace_folder(self.dir / "stages" / run.name, model.save_pretrained)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def _finish(self) -> dict:
        """Choose beta on validation where there are two branches, and write ``results.json``."""
        path = self.dir / "best"
        model = AttributeEmbedder.from_pretrained(path).to(self.accelerator.device)
        validation = embed_split(model, self.data.splits["validation"], self.config.data, self.accelerator)
        if validation.semantic is not None:
            model.beta = choose_beta(model, validation)
            validation = with_beta(model, validation, model.beta)
            self.announce(f"beta = {model.beta:.1f}, chosen on validation")
            if self.is_main:
                replace_folder(path, model.save_pretrained)
        self.accelerator.wait_for_everyone()
        reasoner = None
        if self.config.rerank.enabled:
            reasoner = fit_reasoner(model, self.data, self.config, self.accelerator, validation)
            if self.is_main:
                replace_folder(self.dir / "reasoner", reasoner.save_pretrained)
        results = evaluate_split(
            model, self.data, "validation", self.config, self.accelerator, reasoner=reasoner, embedded=validation
        )
        if self.is_main:
            write_json(self.dir / "validation.json", results)
        self.announce(map_table(results, title="validation MAP, %"))
        return results

    # -- evaluation and checkpoints ---------------------------------------------------------------------------------

    def _evaluate(self, run: StageRun) -> None:
        model = self._model(run)
        results = evaluate_split(
            model,
            self.data,
            "validation",
            self.config,
            self.accelerator,
            max_queries=self.config.loop.eval_max_queries,
        )
        overall = results["rows"][-1]["overall"]
        step = run.offset + run.step
        if self.tracker is not None:
            values = {"validation/MAP": overall}
            values |= {f"validation/{name}": value for name, value in results["rows"][-1]["attributes"].items()}
            self.tracker.log(step, run.name, values)
        self.announce(f"{run.name} step {run.step}: validation MAP {overall:.2f} %")
        is_better = overall > self.best.get("map", -1.0) or self.best.get("stage") != run.name
        if is_better:
            self.best = {"stage": run.name, "step": step, "map": overall}
            if self.is_main:
                replace_folder(self.dir / "best", model.save_pretrained)
        self.accelerator.wait_for_everyone()

    def _save(self, run: StageRun) -> None:
        average_buffers(run.objective)
        objective = self.accelerator.unwrap_model(run.objective)
        rank = self.accelerator.process_index
        state = {
            "stage": run.name, "stage_step": run.step, "best": self.best, "config": self.config.to_dict(),
            "world_size": self.accelerator.num_processes,
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
            if (self.dir / "metrics.jsonl").exists() and self.is_main:
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
        saved["data"].pop("num_workers"), ours["data"].pop("num_workers")
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


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may use the global state
    torch.manual_seed(seed)


def random_state() -> dict[str, torch.Tensor]:
    """torch's generator states as byte tensors."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Inverse of :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    elif "cuda" in state:
        warnings.warn("the checkpoint was written on a CUDA device; its random state is not used here", stacklevel=2)


def load_run_config(run_dir: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Configuration of a run from its ``config.yaml``.

    Raises:
        FileNotFoundError: the folder is no run.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is no run: it has no config.yaml")
    return load_config(path.resolve(), overrides)
