"""The Accelerator of a run, and what has to be set so that every launcher works."""

from __future__ import annotations

import os
import warnings

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from ipad_train.config import RunConfig
from ipad_train.threads import use_threads


def make_accelerator(config: RunConfig) -> Accelerator:
    """Accelerator for one process, several (torchrun, accelerate launch), or DeepSpeed ZeRO-1 and -2.

    Torch's threads are set as well, see :func:`ipad_train.threads.use_threads`.

    Raises:
        ValueError: DeepSpeed ZeRO-3, whose partitioned parameters the momentum encoder cannot follow.
        RuntimeError: the launcher started fewer processes than Accelerate sees.
    """
    # Queues are buffers: broadcasting them before every forward would move gigabytes. They are equal by construction.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    expected = int(os.environ.get("WORLD_SIZE", 1))
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        if expected > 1 or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
            handlers.append(InitProcessGroupKwargs(backend="gloo"))  # DeepSpeed would take NCCL
    accelerator = Accelerator(mixed_precision=config.loop.mixed_precision, kwargs_handlers=handlers)
    if accelerator.num_processes != expected:
        raise RuntimeError(
            f"the launcher announced {expected} processes (WORLD_SIZE), Accelerate runs {accelerator.num_processes}; "
            "on CPU start with `torchrun --nproc-per-node N` and ACCELERATE_USE_CPU=true"
        )
    use_threads(config.loop.threads, config.data.num_workers)
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        stage = plugin.deepspeed_config["zero_optimization"]["stage"]
        if stage == 3:
            raise ValueError(
                "DeepSpeed ZeRO-3 partitions the parameters, which the momentum encoder (Eq. 10) cannot follow; use "
                "ZeRO-1 or ZeRO-2 (ipad_train/configs/deepspeed)"
            )
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"deepspeed|torch\.distributed")
    return accelerator


def describe_machine(accelerator: Accelerator, config: RunConfig) -> str:
    """Processes, device, threads and loader workers in one line."""
    count, kind = accelerator.num_processes, accelerator.distributed_type.value
    threads, why = use_threads(config.loop.threads, config.data.num_workers)
    workers = config.data.num_workers
    return (
        f"{count} process{'es' if count > 1 else ''}, {kind}, {accelerator.device}; each with {threads} "
        f"thread{'s' if threads > 1 else ''} ({why}) and {workers} loader worker{'s' if workers != 1 else ''}"
    )
