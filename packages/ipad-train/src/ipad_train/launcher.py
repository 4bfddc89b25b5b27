"""What `accelerate launch` and its configuration file ask for: honoured, or refused in a sentence."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import psutil

from ipad_train.config import PRECISIONS, RunConfig
from ipad_train.deepspeed_scaler import DeepSpeedScaler

_REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP partitions the parameters, which the momentum encoder (Eq. 10) cannot follow",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM has no engine for these networks",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor and context parallelism have no plan for these networks",
}
_CHOICES = "start plain processes or DeepSpeed ZeRO-1 or -2 (`ipad-train configs` prints configurations)"


def check_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Raise ``ValueError`` where the launcher asks for an engine that a run cannot use, or does not say where to meet."""
    count = environment.get("WORLD_SIZE", "1")
    absent = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if count != "1" and absent:
        raise ValueError(
            f"WORLD_SIZE={count} announces several processes, and {', '.join(absent)} is not set; start them with "
            "`torchrun` or `accelerate launch`, which set them all, or unset WORLD_SIZE"
        )
    for name, reason in _REFUSED.items():
        if environment.get(name, "false").lower() == "true":
            raise ValueError(f"{reason} ({name}): {_CHOICES}")


def resolve_precision(setting: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The precision of a run, of ``loop.mixed_precision`` and what the launcher says.

    ``accelerate launch`` says "no" also where nobody asked for it, so "no" leaves the choice to the configuration.

    Raises:
        ValueError: they say different things, or the launcher one that is not supported.
    """
    launched = environment.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if launched not in PRECISIONS:
        raise ValueError(f"accelerate's mixed_precision must be one of {', '.join(PRECISIONS)}, got {launched!r}")
    if setting is None or launched == "no":
        return setting or launched
    if setting != launched:
        raise ValueError(
            f"accelerate was launched with mixed_precision={launched}, and the run has loop.mixed_precision={setting}; "
            "leave one of them out"
        )
    return setting


def resolve_accumulation(config: RunConfig, launched: int) -> RunConfig:
    """The configuration with ``accumulation`` of every stage: its own, or what the launcher says.

    Raises:
        ValueError: they say different things, or a batch cannot be divided into so many.
    """
    changes = {}
    for name, stage in config.stages():
        if launched != 1 and stage.accumulation not in (None, launched):
            raise ValueError(
                f"accelerate was launched with gradient_accumulation_steps={launched}, and the run has "
                f"{name}.accumulation={stage.accumulation}; leave one of them out"
            )
        try:
            changes[name] = dataclasses.replace(stage, accumulation=stage.accumulation or launched)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from None
    return dataclasses.replace(config, **changes)


def launched_accumulation(environment: Mapping[str, str] = os.environ, parent: psutil.Process | None = None) -> int:
    """Micro-batches of a step that the launcher asks for; 1 where it asks for none.

    ``accelerate launch`` hands ``--gradient_accumulation_steps`` on to DeepSpeed only and drops it otherwise, so that its
    command line is read as well.

    Raises:
        ValueError: no number.
    """
    text = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "auto")
    if text == "auto" and "ACCELERATE_MIXED_PRECISION" in environment:
        text = _option(_command_line(parent), "gradient_accumulation_steps") or "auto"
    if text == "auto":
        return 1
    if not text.isdigit() or not int(text):
        raise ValueError(f"accelerate's gradient_accumulation_steps must be a positive number, got {text!r}")
    return int(text)


def launched_compiler(environment: Mapping[str, str] = os.environ) -> str | None:
    """The backend of ``--dynamo_backend``, with which the network is compiled; None for none."""
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    return None if backend == "no" else backend


def check_deepspeed(plugin: Any, config: RunConfig, precision: str) -> None:
    """Refuse what a DeepSpeed configuration says against the run's.

    Raises:
        ValueError: ZeRO-3; a scale of fp16 that cannot be; a precision or a clipping that is not the run's.
    """
    settings = as_launched(plugin)
    if settings["zero_optimization"]["stage"] == 3:
        raise ValueError(
            "DeepSpeed ZeRO-3 partitions the parameters, which the momentum encoder (Eq. 10) cannot follow; use ZeRO-1 or "
            "ZeRO-2 (`ipad-train configs deepspeed-zero2`)"
        )
    if precision == "fp16":
        DeepSpeedScaler(settings.get("fp16", {}))  # every stage makes one: whether it can
    if settings.get("torch_autocast", {}).get("enabled"):
        raise ValueError(
            "the DeepSpeed configuration enables torch_autocast, and the run casts by itself; leave that section out, and "
            "say the precision with loop.mixed_precision"
        )
    for dtype in ("bf16", "fp16"):
        if str(settings.get(dtype, {}).get("enabled")).lower() == "true" and precision != dtype:
            raise ValueError(
                f"the DeepSpeed configuration enables {dtype}, and the run has loop.mixed_precision={precision}; set "
                f'"{dtype}": {{"enabled": "auto"}} there, or loop.mixed_precision={dtype}'
            )
    clipping = settings.get("gradient_clipping", "auto")
    if clipping != "auto":
        for name, stage in config.stages():
            if float(clipping) != stage.gradient_clip:
                raise ValueError(
                    f"DeepSpeed was configured with gradient_clipping={clipping}, and the run has "
                    f'{name}.gradient_clip={stage.gradient_clip}; leave DeepSpeed\'s out or set it to "auto"'
                )


def as_launched(plugin: Any) -> dict[str, Any]:
    """A DeepSpeed configuration as it was when the process started; Accelerate fills it in for every stage."""
    if not hasattr(plugin, "as_launched"):
        plugin.as_launched = copy.deepcopy(plugin.deepspeed_config)
    return plugin.as_launched


def deepspeed_accumulation(plugin: Any) -> int:
    """Micro-batches of a step that a DeepSpeed configuration file asks for; 1 where it asks for none."""
    steps = as_launched(plugin).get("gradient_accumulation_steps", "auto")
    return 1 if steps == "auto" else int(steps)


def _command_line(parent: psutil.Process | None) -> list[str]:
    try:
        return (parent or psutil.Process().parent()).cmdline()
    except (psutil.Error, AttributeError):  # the launcher is gone, or is another user's
        return []


def _option(words: list[str], name: str) -> str | None:
    """Value of an option on a command line, as ``--name value`` or ``--name=value``, with dashes or underscores."""
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if key.startswith("--") and key[2:].replace("-", "_") == name:
            return value if equals else next(iter(words[position + 1 : position + 2]), None)
    return None
