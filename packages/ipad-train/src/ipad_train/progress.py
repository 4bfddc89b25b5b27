"""Where a run stands, in a checkpoint: its position, and every tensor that the next step depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ipad_train.checkpoint import CheckpointError, write_checkpoint
from ipad_train.config import RunConfig
from ipad_train.loop import StageRun
from ipad_train.objectives import Objective
from ipad_train.optim import load_optimizer_tensors, load_scaler, optimizer_tensors, scaler_state
from ipad_train.randomness import random_state, restore_random_state

BESIDE = (
    "objective.safetensors"  # of an objective beside its model: layers of its own, momentum encoder, queues, centers
)
_MEMORY = "memory."


@dataclass(frozen=True)
class Position:
    """A checkpoint that a run goes on from, and its ``state.json``; without a checkpoint, the beginning."""

    checkpoint: Path | None
    state: dict[str, Any]

    @classmethod
    def beginning(cls) -> Position:
        """Of a run that starts anew."""
        return cls(None, {"stage": None, "stage_step": 0, "step": 0})

    @property
    def stage(self) -> str | None:
        """The stage in progress; None at the beginning."""
        return self.state["stage"]

    @property
    def stage_step(self) -> int:
        """Steps of the stage that are done."""
        return self.state["stage_step"]

    def check(self, config: RunConfig, processes: int) -> None:
        """Refuse a checkpoint that this run cannot continue to the bit.

        Raises:
            CheckpointError: another configuration, or another number of processes.
        """
        saved = self.state.get("config")
        if saved is None:
            return
        saved, ours = json.loads(json.dumps(saved)), json.loads(json.dumps(config.to_dict()))
        for free in ("output_dir", "loop", "rerank"):
            saved.pop(free), ours.pop(free)
        for free in ("num_workers", "eval_batch_size", "keep_maps", "maps_dir"):
            saved["data"].pop(free, None), ours["data"].pop(free)
        different = [key for key in ours if ours[key] != saved[key]]
        if different:
            raise CheckpointError(
                f"{self.checkpoint} is of another configuration: {', '.join(different)} differ; resume with the run's "
                "own config.yaml, or start anew in another output_dir"
            )
        if self.state["world_size"] != processes:
            raise CheckpointError(
                f"{self.checkpoint} was written by {self.state['world_size']} processes, this run has "
                f"{processes}; resume with as many: sums in another order would be another run"
            )


def save_progress(
    run: StageRun, accelerator: Accelerator, run_dir: Path, config: RunConfig, further: dict[str, Any]
) -> None:
    """Write the checkpoint of a stage in progress.

    Args:
        further: JSON-able entries of the state.
    """
    objective: Objective = accelerator.unwrap_model(run.objective)
    rank = accelerator.process_index
    state = {
        "stage": run.name, "stage_step": run.step, "config": config.to_dict(), "world_size": accelerator.num_processes,
        "threads": torch.get_num_threads(), "scaler": scaler_state(accelerator.scaler),
        **further,
    }  # fmt: skip

    def write_shared(folder: Path) -> None:
        objective.model.save_pretrained(folder / "model")
        save_file(tensors_beside(objective), folder / BESIDE)

    def write_own(folder: Path) -> None:
        save_file(_contiguous(optimizer_tensors(run.optimizer)), folder / f"optimizer-{rank}.safetensors")
        save_file(random_state(), folder / f"random-{rank}.safetensors")

    write_checkpoint(
        run_dir, run.offset + run.step, state, write_shared, write_own, keep=config.loop.keep_checkpoints,
        is_main=accelerator.is_main_process, barrier=accelerator.wait_for_everyone,
    )  # fmt: skip


def load_progress(
    position: Position, objective: Objective, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> None:
    """Put memory, optimizer and random state back; the model comes from the checkpoint as it is made.

    Raises:
        CheckpointError: the checkpoint's tensors are not those of this objective.
    """
    rank, folder = accelerator.process_index, position.checkpoint
    tensors = load_file(folder / BESIDE)
    if different := set(tensors_beside(objective)) ^ set(tensors):
        raise CheckpointError(f"{folder} is of another configuration: it differs in {sorted(different)[:4]}")
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_MEMORY)}
    objective.load_state_dict(own, strict=False)  # its model is there already
    if objective.memory is not None:
        memory = {name.removeprefix(_MEMORY): tensors[name] for name in set(tensors) - set(own)}
        objective.memory.load_state_dict(memory)
    load_optimizer_tensors(optimizer, load_file(folder / f"optimizer-{rank}.safetensors"))
    load_scaler(accelerator.scaler, position.state.get("scaler", {}))
    restore_random_state(load_file(folder / f"random-{rank}.safetensors"))


def tensors_beside(objective: Objective) -> dict[str, torch.Tensor]:
    """State of an objective beside the model: layers of its own, and its memory."""
    own = {name: tensor for name, tensor in objective.state_dict().items() if not name.startswith("model.")}
    memory = {} if objective.memory is None else objective.memory.state_dict()
    return _contiguous({**own, **{f"{_MEMORY}{name}": tensor for name, tensor in memory.items()}})


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
