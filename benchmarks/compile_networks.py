"""Every registered network by `torch.compile(fullgraph=True)` with Inductor, against eager: seconds, and whether both agree.

    python benchmarks/compile_networks.py                              # on a GPU at the paper's sizes, on a CPU tiny ones
    python benchmarks/compile_networks.py --models ipad,rpf --precision bf16 --batch 32,20

A row is a network in training mode, forward and backward, two entries an image, no dropout. The first of the batch sizes is
timed; both are compared at each, and a second one makes torch compile again, for sizes that vary. Ends with 1 where a
network failed. compile: seconds of the first compiled steps. embedding: largest difference to eager in shares of the largest
number. gradient: length of the difference over all weights in shares of eager's. (Where a rounding tips a cell of the
attention over the threshold of the crop, the crop moves by a cell, and two branches differ by more than rounding. At the
tiny sizes float32 moves the gradient by 4e-6 to 2e-3 of what float64 gives, and the embeddings by 1e-6 to 2e-6.)
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ipad_core import AttributeEmbedder, create_model, list_models
from ipad_core.models import IPAD, ASENpp

CUDA, ATTRIBUTES = torch.cuda.is_available(), 4
TINY = {"trunk": {"name": "resnet10t", "options": {"channels": [24, 48, 96, 192], "stem_width": 16}}, "image_size": 96}


def names() -> list[str]:
    """Networks at the sizes that suit the device; ipad_resnet50_vitb16 is ipad."""
    large = [name for name in list_models() if not name.endswith(("_tiny", "_vitb16"))]
    return large if CUDA else ["ipad_photos", "lens", *list_models("*_tiny")]


def build(name: str) -> AttributeEmbedder:
    """A network for four attributes, without dropout."""
    options: dict = {"num_values": [3] * ATTRIBUTES} if name.startswith("attribute_classifier") else {}
    options |= TINY if name == "lens" and not CUDA else {}
    model = create_model(name, num_attributes=ATTRIBUTES, **options).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.to("cuda", memory_format=torch.channels_last) if CUDA else model


def step(model: AttributeEmbedder, network: Callable, count: int, options: argparse.Namespace) -> list[Tensor]:
    """Embeddings of a network, the model or what was compiled of it, and the gradient of all weights where any learns."""
    device, side, generator = model.trunk.mean.device, options.size or model.detail_size, torch.Generator()
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator.manual_seed(count), dtype=torch.uint8)
    entries = torch.arange(2 * count)
    given = (tensor.to(device) for tensor in (images, entries % ATTRIBUTES, entries % count))
    asks_back = isinstance(model, IPAD) and not isinstance(model, ASENpp)
    bf16 = torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()
    with bf16:
        output = network(*given, **({"background": True} if asks_back else {}))
    if not output.embedding.requires_grad:
        return [output.embedding]
    parts = [output.embedding, output.spatial, output.semantic, output.background]
    sum(part.square()[:, ::2].sum() for part in parts if part is not None).backward()
    slopes = [weight.grad.flatten().float() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return [output.embedding.detach(), torch.cat(slopes)]


def seconds(work: Callable[[], object]) -> float:
    """Of a call, until the device has done it."""
    start = time.perf_counter()
    work()
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def row(name: str, options: argparse.Namespace) -> str:
    """The numbers of a network."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = build(name)
    compiled, batches = torch.compile(model, fullgraph=True), [int(count) for count in options.batch.split(",")]
    eager, fast = ((lambda n, net=net: step(model, net, n, options)) for net in (model, compiled))
    spent, embedding, gradient = 0.0, 0.0, 0.0
    for count in batches:
        spent += seconds(lambda: fast(count))  # noqa: B023 - called at once
        (one, *slope), (other, *other_slope) = eager(count), fast(count)
        embedding = max(embedding, float((other - one).abs().max() / one.abs().max()))
        if slope:
            gradient = max(gradient, float((other_slope[0] - slope[0]).norm() / slope[0].norm()))
    turns = [[seconds(lambda work=work: work(batches[0])) for work in (eager, fast)] for _ in range(options.turns + 1)]
    slow, quick = (statistics.median(times) for times in zip(*turns[1:], strict=True))
    return f"{slow:.4f} | {quick:.4f} | {slow / quick:.2f} | {spent:.0f} | {embedding:.1e} | {gradient:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(names()), help="names with commas in between; all by default")
    parser.add_argument("--size", type=int, help="side of the images, px; by default that of each network")
    parser.add_argument("--batch", default="32" if CUDA else "6", help="images, one size or several")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no", help="bf16 is autocast")
    parser.add_argument("--turns", type=int, default=10 if CUDA else 3)
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, {options.batch} images, precision {options.precision}\n")
    print("| network | eager, s | compiled, s | ratio | compile, s | embedding | gradient |\n|" + "---|" * 7)
    failed = 0
    for name in options.models.split(","):
        try:
            numbers = row(name, options)
        except Exception as error:  # whatever the compiler raises: the others are tried all the same
            numbers, failed = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", 1
        print(f"| {name} | {numbers} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
