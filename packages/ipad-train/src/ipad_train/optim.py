"""Optimizers, learning-rate schedules as pure functions of the step, and optimizer state as plain tensors."""

from __future__ import annotations

import math

import torch
from torch import nn

from ipad_train.config import StageConfig
from ipad_train.deepspeed_scaler import DeepSpeedScaler


def learning_rate_scale(stage: StageConfig, step: int) -> float:
    """Factor on the learning rate at a step of a stage, in [0, 1]; a pure function, so a resumed run needs no state.

    ``one_cycle`` warms up linearly over ``warmup * steps`` steps, then follows a cosine to zero; ``step`` multiplies
    by ``decay`` every ``decay_every`` steps (the schedule of the paper's public configuration).
    """
    if stage.schedule == "step":
        return stage.decay ** (step // stage.decay_every)
    warmup_steps = round(stage.warmup * stage.steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, stage.steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, stage: StageConfig, step: int) -> float:
    """Set every group's rate for a step; returns the scale."""
    scale = learning_rate_scale(stage, step)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
    return scale


def learning_rates(stage: StageConfig, step: int) -> dict[str, float]:
    """The rates at a step of a stage by name: ``learning_rate``, and IP-SP's and the trunks' where they have their own."""
    scale = learning_rate_scale(stage, step)
    rates = {"learning_rate": stage.learning_rate * scale}
    for part, rate in (("spatial", stage.spatial_learning_rate), ("trunk", stage.trunk_learning_rate)):
        if rate:
            rates[f"learning_rate/{part}"] = rate * scale
    return rates


def build_optimizer(objective: nn.Module, stage: StageConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over the trainable parameters of an objective.

    Vectors (biases, norms) are not decayed. Parameters below ``model.spatial`` take ``spatial_learning_rate`` where
    the stage gives one, and those of a trunk no more than ``trunk_learning_rate``. The fused implementation is used on CUDA.

    Raises:
        ValueError: nothing to train.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        own_rate = stage.spatial_learning_rate if name.startswith("model.spatial.") else None
        rate = stage.learning_rate if own_rate is None else own_rate
        if stage.trunk_learning_rate is not None and "trunk" in name.split("."):
            rate = min(rate, stage.trunk_learning_rate)
        decay = stage.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("nothing to train: the objective has no parameter that requires a gradient")
    options = [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    cls = torch.optim.AdamW if stage.optimizer == "adamw" else torch.optim.Adam
    on_cuda = all(parameter.is_cuda for group in options for parameter in group["params"])
    return cls(options, fused=on_cuda)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """State of an optimizer as named tensors, for safetensors.

    Under DeepSpeed the wrapped optimizer's parameters are this rank's flat float32 shards; they are saved as well,
    since the model's own parameters may be of lower precision.
    """
    base = _base_optimizer(optimizer)
    sharded = base is not optimizer
    tensors = {}
    for g, group in enumerate(base.param_groups):
        for p, parameter in enumerate(group["params"]):
            if sharded:
                tensors[f"{g}.{p}.parameter"] = parameter.detach().clone()
            for key, value in base.state.get(parameter, {}).items():
                tensors[f"{g}.{p}.{key}"] = torch.as_tensor(value).detach().clone()
    return tensors


@torch.no_grad()
def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Inverse of :func:`optimizer_tensors`.

    Raises:
        ValueError: the tensors are those of other parameters (group, position or shape differ).
    """
    base = _base_optimizer(optimizer)
    remaining = dict(tensors)
    for g, group in enumerate(base.param_groups):
        for p, parameter in enumerate(group["params"]):
            prefix = f"{g}.{p}."
            state = {}
            for name in [name for name in remaining if name.startswith(prefix)]:
                key, value = name.removeprefix(prefix), remaining.pop(name)
                if value.ndim and value.shape != parameter.shape:
                    raise ValueError(
                        f"optimizer state {name!r} has shape {tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                    )
                if key == "parameter":
                    parameter.copy_(value)
                else:
                    on_cpu = key == "step" and not group.get("fused") and not group.get("capturable")
                    state[key] = value.clone() if on_cpu else value.to(parameter.device, copy=True)
            if state:
                base.state[parameter] = state
    if remaining:
        raise ValueError(f"optimizer state of parameters that this run does not train: {sorted(remaining)[:4]}")


def scaler_state(scaler: torch.amp.GradScaler | DeepSpeedScaler | None) -> dict[str, float]:
    """The loss scale of fp16 as plain numbers; empty where losses are not scaled."""
    return {} if scaler is None else scaler.state_dict()


def load_scaler(scaler: torch.amp.GradScaler | DeepSpeedScaler | None, state: dict[str, float]) -> None:
    """Inverse of :func:`scaler_state`; an empty state leaves the scale as it is."""
    if scaler is not None and state:
        scaler.load_state_dict(state)


def _base_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The torch optimizer below the wrappers of Accelerate and DeepSpeed."""
    inner = getattr(optimizer, "optimizer", None)
    return optimizer if inner is None else _base_optimizer(inner)
