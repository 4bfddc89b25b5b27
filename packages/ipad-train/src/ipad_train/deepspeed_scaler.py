"""The loss scale of fp16 under DeepSpeed, whose weights stay float32 here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class DeepSpeedScaler:
    """DeepSpeed's loss scaler in a ZeRO optimizer that holds float32 weights; a run asks it as it asks torch's GradScaler.

    DeepSpeed by itself scales losses only where it casts the weights to fp16, and then batch norms and layer norms meet
    inputs, weights and statistics of different types. Here the weights stay float32, autocast computes in fp16, and ZeRO
    gets the scaler that it would have made: it multiplies losses by the scale, leaves out steps whose gradients overflow,
    and divides the others' gradients by the scale.

    ZeRO divides after it has updated the scaler, by the scale of the next step. So a scale that has grown counts from the
    next loss on; :attr:`cur_scale` is that of the step in progress.

    Args:
        settings: Section ``fp16`` of a DeepSpeed configuration: ``loss_scale`` (0, the default, for one that adapts),
            ``initial_scale_power`` (16), ``loss_scale_window`` (1,000 steps), ``hysteresis`` (2), ``min_loss_scale`` (1).

    Raises:
        ValueError: a setting is out of range, or asks for weights in fp16.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from deepspeed.runtime.fp16.loss_scaler import CreateLossScaler
        from deepspeed.runtime.precision_config import DeepSpeedFP16Config

        if settings.get("fp16_master_weights_and_grads"):
            raise ValueError(
                "fp16.fp16_master_weights_and_grads must be false: the optimizer's weights are float32 here"
            )
        try:
            found = DeepSpeedFP16Config(**{**settings, "enabled": True})
        except ValueError as error:
            raise ValueError(f"section fp16 of the DeepSpeed configuration is not valid: {error}") from None
        self.dynamic = found.loss_scale == 0
        self.scaler = CreateLossScaler(torch.float16, found.loss_scale, self.dynamic, found.dynamic_loss_scale_args())
        self.scaler.raise_error_at_min_scale = False  # a run counts steps that no scale helps, and ends after some
        self.cur_scale = self.scaler.cur_scale

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss times the scale; ZeRO calls it before each backward pass."""
        self.cur_scale = self.scaler.cur_scale
        return loss * self.cur_scale

    def update_scale(self, overflow: bool) -> None:
        """Adapt the scale of the next step; ZeRO calls it once a step, with the same answer on every process."""
        self.scaler.update_scale(overflow)

    def get_scale(self) -> float:
        """The scale of the next step."""
        return float(self.scaler.cur_scale)

    @property
    def lowest(self) -> float:
        """The scale at which a gradient that is not finite is so by itself, as no lower one will be tried."""
        return max(1.0, float(self.scaler.min_scale)) if self.dynamic else self.get_scale()

    def state_dict(self) -> dict[str, float]:
        """Plain numbers, for a checkpoint."""
        return {name: getattr(self.scaler, name) for name in self._names}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises:
            ValueError: the state of another kind of scaler.
        """
        if set(state) != set(self._names):
            raise ValueError(
                f"the checkpoint holds a loss scale with {', '.join(sorted(state))}, this run needs "
                f"{', '.join(self._names)}: they are of different engines, or of a fixed scale and one that adapts"
            )
        for name in self._names:
            setattr(self.scaler, name, state[name])

    @property
    def _names(self) -> tuple[str, ...]:
        adapting = ("cur_hysteresis", "cur_iter", "last_overflow_iter")
        return ("cur_scale", *adapting) if self.dynamic else ("cur_scale",)
