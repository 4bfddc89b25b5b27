"""What a network costs: parameters, multiply-adds, and the time to embed one image for one attribute."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ipad_core import AttributeEmbedder
from ipad_train.blank_input import blank_input


class Costs(NamedTuple):
    """``parameters``; ``multiply_adds`` and ``milliseconds`` (median) of one image for one attribute."""

    parameters: int
    multiply_adds: int
    milliseconds: float


def model_costs(
    model: AttributeEmbedder, image_side: int, repeats: int = 10, part: nn.Module | None = None, **options: Any
) -> Costs:
    """Costs of a network in evaluation mode, on the device where it lies.

    Args:
        model: The network; its mode is restored.
        image_side: Side of the uint8 image that it is given, px; one that reads vectors gets a vector.
        repeats: How often the pass is timed, after two that are not.
        part: Whose parameters count; the whole network's by default.
        options: Of its ``forward``, e.g. ``branches="spatial"``.
    """
    device = model.trunk.mean.device
    image = blank_input(model, image_side)
    attribute = torch.zeros(1, dtype=torch.long, device=device)

    def once() -> None:
        model(image, attribute, **options)

    was_training = model.training
    model.eval()
    with torch.no_grad():
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
            once()
        milliseconds = time_calls(once, device, repeats)
    model.train(was_training)
    parameters = sum(parameter.numel() for parameter in (part or model).parameters())
    return Costs(parameters, counter.get_total_flops() // 2, milliseconds)


def branch_costs(model: AttributeEmbedder, image_side: int) -> dict[str, Costs]:
    """Costs of the ``whole`` network and of its ``first`` branch alone, which are the same where it has one."""
    whole = model_costs(model, image_side)
    two = len(model.branches) == 2
    first = model_costs(model, image_side, part=model.spatial, branches="spatial") if two else whole
    return {"whole": whole, "first": first}


def time_calls(call: Any, device: torch.device, repeats: int) -> float:
    """Median milliseconds of a call that works on a device."""
    times = []
    for number in range(repeats + 2):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if number >= 2:
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
