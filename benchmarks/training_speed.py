"""Images a second and memory of a training step, against the bare trunk of the same network in the same run.

A step is forward, triplet loss, backward and Adam on a batch of random images that lie on the device, as stage 2 of the
paper's presets runs it (both branches, crops included; no data loading, no momentum encoder). The bare trunk does forward,
the mean of its map as loss, backward and Adam on images already of its size: the least that any method on it can cost.
The two take turns. Made for a GPU (``--mixed-precision bf16 --compile``); runs on a CPU with the small network.

    python benchmarks/training_speed.py                                    # ipad_resnet50_vitb16 on a GPU, ipad_tiny without
    python benchmarks/training_speed.py --mixed-precision bf16 --channels-last
    python benchmarks/training_speed.py --mixed-precision bf16 --compile --triplets 32
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from ipad_core import create_model
from ipad_core.losses import TripletLoss


def one_step(
    forward: Callable[[], torch.Tensor], module: nn.Module, precision: str, device: torch.device
) -> Callable[[], None]:
    """A step of Adam on ``forward``'s loss."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-5)
    scaled = precision != "no"
    autocast = torch.autocast(device.type, torch.bfloat16) if scaled else contextlib.nullcontext()

    def step() -> None:
        with autocast:
            loss = forward()
        loss.float().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(step: Callable[[], None], repeats: int, device: torch.device) -> tuple[float, float]:
    """Seconds a step, and the peak of the device's memory in GiB (0 on a CPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / repeats
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ipad_resnet50_vitb16" if cuda else "ipad_tiny")
    parser.add_argument(
        "--triplets", type=int, default=16 if cuda else 4, help="a batch has three times as many images"
    )
    parser.add_argument("--detail-size", type=int, default=448 if cuda else 128, help="side of the images, pixels")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10 if cuda else 2, help="a turn")
    arguments = parser.parse_args()
    device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(0)
    model = create_model(arguments.model, num_attributes=8).to(device).train()
    if arguments.channels_last:
        model.to(memory_format=torch.channels_last)
    trunk, side = model.trunk, model.image_size
    count = 3 * arguments.triplets
    large = torch.randint(0, 256, (count, 3, arguments.detail_size, arguments.detail_size), device=device).byte()
    small = torch.randn(count, 3, side, side, device=device)
    if arguments.channels_last:
        small = small.contiguous(memory_format=torch.channels_last)
    attributes = torch.arange(arguments.triplets, device=device).remainder(8).repeat(3)
    criterion = TripletLoss(0.2)
    if arguments.compile:
        model.compile()
        trunk = torch.compile(trunk)

    def whole() -> torch.Tensor:
        return criterion(*model(large, attributes, branches="both").embedding.float().chunk(3))

    def bare() -> torch.Tensor:
        return trunk(small).float().mean()

    steps = {
        "whole network": one_step(whole, model, arguments.mixed_precision, device),
        "bare trunk": one_step(bare, trunk, arguments.mixed_precision, device),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(arguments.turns + 1):
        for name, step in steps.items():
            result = timed(step, arguments.steps, device)
            if turn:  # the first one warms up, and compiles
                found[name].append(result)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    where = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{arguments.model}, {parameters:.1f} M parameters, {count} images a step, {where}")
    print("| | images/s | GiB at most |\n|---|---|---|")
    for name, results in found.items():
        seconds = statistics.median(second for second, _ in results)
        print(f"| {name} | {count / seconds:.1f} | {max(memory for _, memory in results):.1f} |")
    ratios = [one[0] / other[0] for one, other in zip(*found.values(), strict=True)]
    print(f"The whole network costs {statistics.median(ratios):.2f} times the bare trunk.")


if __name__ == "__main__":
    main()
