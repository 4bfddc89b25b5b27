"""What a checkpoint holds: every tensor that the next step depends on, and the state beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ipad_train.checkpoint import CheckpointError, write_checkpoint
from ipad_train.config_identity import config_hash
from ipad_train.finite import check_finite
from ipad_train.objectives import Objective
from ipad_train.optim import load_optimizer_tensors, load_scaler, optimizer_tensors, scaler_state
from ipad_train.position import Position
from ipad_train.randomness import random_state, restore_random_state
from ipad_train.run_context import RunContext
from ipad_train.stage_run import StageRun

BESIDE = (
    "objective.safetensors"  # of an objective beside its model: layers of its own, momentum encoder, queues, centers
)
MODEL = "model"  # folder of the network
_MEMORY = "memory."


def save_progress(run: StageRun, context: RunContext, further: dict[str, Any]) -> None:
    """Write the checkpoint of a stage in progress into its run's folder.

    Args:
        further: JSON-able entries of the state.

    Raises:
        DivergedError: something that would be saved holds NaN or infinity; nothing is written.
    """
    config, accelerator = context.config, context.accelerator
    objective: Objective = accelerator.unwrap_model(run.objective)
    rank = accelerator.process_index
    state = {
        "stage": run.name,
        "stage_step": run.step,
        "config": config.to_dict(),
        "config_hash": config_hash(config),
        "world_size": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "scaler": scaler_state(accelerator.scaler),
        "health": run.health.to_dict(),
        **further,
    }
    optimizer, beside = optimizer_tensors(run.optimizer), tensors_beside(objective)
    everything = (objective.model.state_dict(), beside, optimizer)
    check_finite(accelerator, everything, f"step {run.step} of {run.name}")

    def write_shared(folder: Path) -> None:
        objective.model.save_pretrained(folder / MODEL)
        save_file(beside, folder / BESIDE)

    def write_own(folder: Path) -> None:
        save_file(_contiguous(optimizer), folder / f"optimizer-{rank}.safetensors")
        save_file(random_state(), folder / f"random-{rank}.safetensors")

    write_checkpoint(
        context.folder,
        run.global_step,
        state,
        write_shared,
        write_own,
        keep=config.loop.keep_checkpoints,
        is_main=accelerator.is_main_process,
        barrier=accelerator.wait_for_everyone,
    )


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
