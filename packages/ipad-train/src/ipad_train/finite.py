"""Steps whose loss or gradient is not finite: left out, counted, and at last the end of the run.

A loss that is not finite makes all gradients so (:func:`spoiled`), and the engines add the gradients of all processes up. So
the norm of the gradient tells every process the same, without a message of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from ipad_train.deepspeed_scaler import DeepSpeedScaler
from ipad_train.stage_run import StageRun

_TOLD = 10  # skipped steps of a stage that get a line of their own


class DivergedError(RuntimeError):
    """Losses or gradients were NaN or infinite too many times in a row, or weights are."""


def spoiled(loss: Tensor) -> Tensor:
    """The same loss; one that is not finite has no finite gradient either."""
    return loss * (1.0 + (loss.detach() - loss.detach()))  # times 1, or NaN


def step_fails(accelerator: Accelerator, losses: Sequence[Tensor], norm: Tensor | float | None) -> bool:
    """Whether a step has to be left out; the same answer on every process.

    The scaler of fp16 tries scales at which gradients overflow, and leaves such steps out by itself. There only the losses
    count; see :func:`looks_for_a_scale`.

    Args:
        accelerator: Of the run.
        losses: Of the step's micro-batches.
        norm: Of the gradient over all processes, None where the engine does not say.
    """
    if norm is not None and accelerator.scaler is None:
        return not bool(torch.isfinite(torch.as_tensor(norm)))
    bad = ~torch.isfinite(torch.stack([loss.detach().float() for loss in losses])).all()
    if accelerator.num_processes > 1:
        bad = accelerator.gather(bad[None]).any()
    return bool(bad)


def looks_for_a_scale(scaler: torch.amp.GradScaler | DeepSpeedScaler) -> bool:
    """Whether a lower scale may help a gradient that overflows. At 1 it is not finite by itself."""
    return scaler.get_scale() > (scaler.lowest if isinstance(scaler, DeepSpeedScaler) else 1)


def tell_skipped(run: StageRun, losses: Sequence[Tensor], most: int) -> list[str]:
    """Count a step that was left out; returns what the user should know.

    Raises:
        DivergedError: it is one more than ``most`` in a row.
    """
    run.health.bad()
    step, count = run.step + 1, run.health.in_a_row
    if count > most:
        nth = f", {count} times in a row" if count > 1 else ""
        raise DivergedError(
            f"the loss of {run.name}, or its gradient, became NaN or infinite at step {step}{nth}; training stopped, the "
            "last checkpoint holds the weights from before. Lower learning_rate, or use loop.mixed_precision=bf16 or no"
        )
    if run.health.skipped > _TOLD:
        return []
    finite = all(bool(torch.isfinite(loss)) for loss in losses)
    what = "its gradient is not finite" if finite else "its loss is not finite"
    return [f"step {step} of {run.name} is skipped: {what} ({run.health.skipped} of this stage so far)"]


def check_finite(accelerator: Accelerator, tensors: Iterable[Mapping[str, Tensor]], where: str) -> None:
    """Refuse to save what is not finite; all processes have to call, each with its own tensors.

    Raises:
        DivergedError: on every process, where a tensor of any of them holds NaN or infinity.
    """
    names = [
        name
        for group in tensors
        for name, tensor in group.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    bad = torch.tensor([len(names)], device=accelerator.device)
    total = int(accelerator.gather(bad).sum())
    if total:
        found = f": {', '.join(names[:4])}" if names else ", on another process"
        raise DivergedError(
            f"{total} tensors hold NaN or infinity after {where}{found}; nothing was saved, and the last checkpoint holds "
            "the weights from before. Lower learning_rate, or use loop.mixed_precision=bf16 or no"
        )
