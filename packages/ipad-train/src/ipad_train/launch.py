"""The Accelerator of a run, and what has to be set so that every launcher works."""

from __future__ import annotations

import copy
import os
import platform
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import ProjectConfiguration

from ipad_train.config import RunConfig, StageConfig
from ipad_train.deepspeed_scaler import DeepSpeedScaler
from ipad_train.doctor.installed import installed_version
from ipad_train.freed_memory import keep_freed_memory
from ipad_train.launcher import (
    as_launched,
    check_deepspeed,
    check_launcher,
    deepspeed_accumulation,
    launched_accumulation,
    launched_compiler,
    resolve_accumulation,
    resolve_precision,
)
from ipad_train.run_folder import RunFolder
from ipad_train.threads import use_threads

_NAMED = ("torch", "timm", "accelerate", "ipad-train", "ipad-core", "ipad-data", "ipad-rerank")


def make_accelerator(config: RunConfig, tracking_dir: Path | None = None) -> Accelerator:
    """Accelerator for one process, several (torchrun, accelerate launch), or DeepSpeed ZeRO-1 and -2.

    Its ``run_precision`` is that of the run; Accelerate's own ``mixed_precision`` is that of DeepSpeed's weights, float32.
    Torch's threads are set as well, see :func:`ipad_train.threads.use_threads`, and without a GPU
    :func:`ipad_train.freed_memory.keep_freed_memory`.

    Args:
        config: The run.
        tracking_dir: Where the trackers of ``loop.log_with`` write; None for no trackers.

    Raises:
        ValueError: the launcher asks for what a run cannot do, or for something else than the configuration does.
        RuntimeError: the launcher started fewer processes than Accelerate sees.
        ImportError: a tracker's package is not installed.
    """
    check_launcher()
    precision = resolve_precision(config.loop.mixed_precision)
    # Processes are equal by construction; broadcasting before every forward would cost time and hide a fault.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    expected = int(os.environ.get("WORLD_SIZE", 1))
    if not torch.cuda.is_available():
        keep_freed_memory()
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        if expected > 1 or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            handlers.append(InitProcessGroupKwargs(backend="gloo"))  # DeepSpeed would take NCCL
    names = config.loop.log_with if tracking_dir is not None else []
    accelerator = Accelerator(
        mixed_precision=precision,
        kwargs_handlers=handlers,
        dynamo_backend="no",
        log_with=names or None,
        project_config=ProjectConfiguration(
            tracking_dir, logging_dir=tracking_dir and RunFolder(tracking_dir).tensorboard
        ),
    )
    if accelerator.num_processes != expected:
        raise RuntimeError(
            f"the launcher announced {expected} processes (WORLD_SIZE), Accelerate runs {accelerator.num_processes}; "
            "on CPU start with `torchrun --nproc-per-node N` and ACCELERATE_USE_CPU=true"
        )
    accelerator.run_precision = precision
    use_threads(config.loop.threads, config.data.num_workers)
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        check_deepspeed(plugin, config, precision)
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"deepspeed|torch\.distributed")
    return accelerator


def with_launcher_settings(config: RunConfig, accelerator: Accelerator) -> RunConfig:
    """The configuration with the accumulation of every stage, of its own or as the launcher asks for it.

    Raises:
        ValueError: both say different things.
    """
    plugin = accelerator.state.deepspeed_plugin
    launched = launched_accumulation()
    return resolve_accumulation(config, launched if plugin is None else max(launched, deepspeed_accumulation(plugin)))


def compile_network(model: torch.nn.Module, config: RunConfig) -> None:
    """Compile a network, and its second branch for when that runs alone, where the configuration or the launcher says so."""
    backend = launched_compiler()
    if config.loop.compile or backend is not None:
        for network in (model, getattr(model, "semantic", None)):
            if network is not None:
                network.compile(backend=backend or "inductor")


def configure_engine(accelerator: Accelerator, stage: StageConfig) -> None:
    """Tell the engine how a stage's gradients come together; to be called before its objective is prepared."""
    accelerator.gradient_accumulation_steps = stage.accumulation or 1
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        return
    pristine, settings = copy.deepcopy(as_launched(plugin)), plugin.deepspeed_config
    settings.clear()
    settings.update(pristine)
    parts = accelerator.num_processes * (stage.accumulation or 1)
    settings["train_batch_size"] = "auto"
    settings["train_micro_batch_size_per_gpu"] = max(1, stage.batch_size // parts)
    settings["gradient_accumulation_steps"] = stage.accumulation or 1
    settings["gradient_clipping"] = stage.gradient_clip
    settings["bf16"] = settings["fp16"] = {"enabled": False}  # weights stay float32, and autocast casts: DDP's steps
    settings["zero_force_ds_cpu_optimizer"] = False  # offloaded states are updated by torch's optimizers as well


def scale_losses(accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> None:
    """Scale losses where DeepSpeed runs in fp16, as its configuration says; to be called with a prepared optimizer.

    From then on ``accelerator.scaler`` is the scaler of every engine. Without DeepSpeed, Accelerate has made it.
    """
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None or run_precision(accelerator) != "fp16":
        return
    zero = optimizer.optimizer
    zero.loss_scaler = accelerator.scaler = DeepSpeedScaler(as_launched(plugin).get("fp16", {}))
    zero.dynamic_loss_scale, zero.check_grad_overflow = accelerator.scaler.dynamic, True


def run_precision(accelerator: Accelerator) -> str:
    """``no``, ``bf16`` or ``fp16``: of the run, or of an accelerator that was made elsewhere."""
    return getattr(accelerator, "run_precision", accelerator.mixed_precision)


def step_precision(accelerator: Accelerator) -> AbstractContextManager:
    """Autocast to the run's precision, whatever the engine.

    DeepSpeed's own bf16 casts the weights and nothing else. Batch norms and layer norms then meet inputs, weights and
    statistics of different types, which torch does not compute with.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(run_precision(accelerator))
    return nullcontext() if dtype is None else torch.autocast(accelerator.device.type, dtype=dtype)


def compute_in_precision(objective: torch.nn.Module, accelerator: Accelerator) -> None:
    """Let an objective's forward pass autocast to the run's precision; to be called before it is prepared.

    It does so inside the engine: on a GPU, DeepSpeed's switches off what is autocast around it.
    """

    def forward(batch: dict[str, Any]) -> Any:
        with step_precision(accelerator):
            return type(objective).forward(objective, batch)

    objective.forward = forward


def describe_machine(accelerator: Accelerator, config: RunConfig) -> str:
    """Processes, device, precision, threads and loader workers in one line."""
    count, kind = accelerator.num_processes, accelerator.distributed_type.value
    threads, why = use_threads(config.loop.threads, config.data.num_workers)
    workers = config.data.num_workers
    precision = {"no": "float32"}.get(run_precision(accelerator), run_precision(accelerator))
    plugin = accelerator.state.deepspeed_plugin
    kind += "" if plugin is None else f" ZeRO-{plugin.deepspeed_config['zero_optimization']['stage']}"
    return (
        f"{count} process{'es' if count > 1 else ''}, {kind}, {accelerator.device}, {precision}; each with {threads} "
        f"thread{'s' if threads > 1 else ''} ({why}) and {workers} loader worker{'s' if workers != 1 else ''}"
    )


def made_with(accelerator: Accelerator, config: RunConfig) -> dict[str, str]:
    """What the numbers of a run may depend on beside its configuration: ``machine``, and ``versions`` of packages."""
    versions = [f"{package} {installed_version(package)}" for package in _NAMED]
    return {
        "machine": describe_machine(accelerator, config),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }
