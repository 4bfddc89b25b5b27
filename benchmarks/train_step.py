"""A training step of the paper's networks: images a second, where the time goes, memory, and the published way beside it.

    python benchmarks/train_step.py                        # paper's sizes: 64 and 16 triplets in bf16 on a GPU, 4 on a CPU
    python benchmarks/train_step.py --precisions no,bf16   # both precisions in one run, for the ratios
    python benchmarks/train_step.py --precisions bf16,bf16+compile   # with torch.compile as well, as loop.compile has it
    python benchmarks/train_step.py --growth               # step time and queue memory from 8/54 to 5/1000 values
    python benchmarks/train_step.py --profile              # what each operator of a step costs, instead
    python benchmarks/train_step.py --model ipad_tiny --triplets 2 --detail-size 64 --turns 1 --queue-length 5    # seconds

Ours is the step of `ipad_train.loop`, on images that lie on the device as uint8: augmentation, forward, backward,
optimizer, then the momentum encoder, the queues and their centers. Stage 1 trains IP-SP, stage 2 both branches with
the cluster loss on. The published way is that of `published_step.py`: float32, without momentum encoder and clusters.
Each is a process of its own, as one would run it. They take turns, so that a busy machine slows all alike.

- images/s: images of a batch (3 a triplet) by the seconds of a step, the median over the turns; the ratio to the published
  way is the median over the turns as well.
- TFLOP: floating-point operations of the step (forward, backward and momentum pass) by torch's counter.
- peak: the fastest product of two matrices in the step's precision, measured before every turn.
- utilisation: TFLOP by seconds, in percent of the peak. A step that multiplied matrices and did nothing else would have 100.
- kept: bytes that autograd keeps from forward to backward; and the most memory of the process, on a GPU of the GPU.
- share: each part's seconds, measured in a turn of its own that waits for the device after each part.

Run it on a machine that does nothing else, or with OMP_NUM_THREADS=1 and --cpu-time, which others do not lengthen. Say which
machine: `lscpu | grep "Model name"`, or `nvidia-smi -L`. On two CPU cores a turn of stage 2 at the paper's sizes takes about
half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import multiprocessing as mp
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from published_step import PublishedStep, triplet_batch
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode

from ipad_core import create_model
from ipad_data import BatchAugmentation
from ipad_train.config import ClusterConfig, LossConfig, StageConfig
from ipad_train.freed_memory import keep_freed_memory
from ipad_train.objectives import AttributeDiverging, BatchLayout, BranchClusters, MetricLearning, Objective
from ipad_train.optim import build_optimizer
from ipad_train.step_inputs import AugmentedImages, StepSeed

PUBLISHED = "the published way, float32"
PARTS = ("augmentation", "forward", "backward", "optimizer", "momentum and queues")


class OurStep:
    """The step of a stage, part by part.

    Args:
        options: Of the command line.
        stage: 1 or 2.
        precision: no or bf16, or one of them with "+compile".
        attributes, values: A and V of the dataset.
    """

    def __init__(self, options: argparse.Namespace, stage: int, precision: str, attributes: int, values: int) -> None:
        self.device, self.number = options.device, 0
        self.precision, _, compiled = precision.partition("+")
        second = {} if stage == 2 else {"semantic": False}
        model = create_model(options.model, num_attributes=attributes, **second)
        owners = torch.arange(values) * attributes // values
        if stage == 1:
            objective: Objective = MetricLearning(model, BatchLayout("triplet"), LossConfig())
        else:
            settings = ClusterConfig(queue_length=options.queue_length, refresh_every=50)
            clusters = BranchClusters(model, settings, torch.full((values,), 1000), owners, 0.2, 1000, True)
            clusters._started = True
            objective = AttributeDiverging(model, BatchLayout("triplet"), LossConfig(), clusters, True)
        layout = torch.channels_last if self.device.type == "cuda" else torch.preserve_format  # as a run does
        self.objective = objective.to(self.device, memory_format=layout).train()
        if objective.memory is not None:
            objective.memory.to(self.device)
        if compiled:
            for network in (model, *([] if objective.memory is None else [objective.memory.momentum.network])):
                network.compile()
        self.optimizer = build_optimizer(objective, StageConfig(optimizer="adam", learning_rate=1e-5))
        self.inputs = AugmentedImages(0.5, BatchAugmentation(flip=0.0))
        self.batch = triplet_batch(options, owners)

    @property
    def images(self) -> int:
        """Images of a batch."""
        return len(self.batch["images"])

    def parts(self) -> Iterator[str]:
        """Do a step; yields the name of each part once it is done."""
        with torch.no_grad():
            batch = self.inputs(self.batch, StepSeed(0, self.number))
        yield "augmentation"
        with self.autocast():
            losses = self.objective(batch)
        yield "forward"
        losses["loss"].backward()
        yield "backward"
        self.optimizer.step()
        self.optimizer.zero_grad()
        yield "optimizer"
        with self.autocast():
            self.objective.after_step([batch], self.number)
        self.number += 1
        yield "momentum and queues"

    def __call__(self) -> None:
        for _ in self.parts():
            pass

    def autocast(self) -> contextlib.AbstractContextManager:
        """The step's precision."""
        if self.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


Step = OurStep | PublishedStep


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


Clock = Callable[[], float]


def seconds(step: Callable[[], object], repeats: int, device: torch.device, clock: Clock) -> float:
    """Mean seconds of a step."""
    wait(device)
    start = clock()
    for _ in range(repeats):
        step()
    wait(device)
    return (clock() - start) / repeats


def shares(step: OurStep) -> dict[str, float]:
    """Share of each part in a step that waits after each."""
    wait(step.device)
    spent, before = {}, time.perf_counter()
    for part in step.parts():
        wait(step.device)
        now = time.perf_counter()
        spent[part], before = now - before, now
    return {part: spent[part] / sum(spent.values()) for part in PARTS}


def operations(step: Step) -> int:
    """Floating-point operations of a step."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        step()
    return counter.get_total_flops()


def kept_bytes(step: OurStep) -> int:
    """What autograd keeps from forward to backward, apart from parameters; each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in step.objective.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    parts = step.parts()
    next(parts)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        next(parts)
    for _ in parts:
        pass
    return sum(storages.values())


def matrix_peak(precision: str, device: torch.device, clock: Clock) -> float:
    """Operations a second of the fastest product of two square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: one @ other, 1, device, clock) for _ in range(6))


def turn(step: Step, repeats: int, device: torch.device, clock: Clock) -> tuple[float, float]:
    """The peak, and just after it the mean seconds of a step."""
    return matrix_peak(step.precision, device, clock), seconds(step, repeats, device, clock)


def memory(device: torch.device) -> float:
    """The most that this process held at a time, GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def profile(step: OurStep, repeats: int) -> str:
    """Where the time of a step goes: how long the device works, how often it is given work, and the costliest operators."""
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    for _ in range(3):
        step()
    plain = seconds(step, repeats, step.device, time.perf_counter)
    with torch.profiler.profile(activities=activities, acc_events=True) as found:
        watched = seconds(step, repeats, step.device, time.perf_counter)
    events, column = found.key_averages(), f"self_{step.device.type}_time_total"
    asked = {name: sum(event.count for event in events if name in event.key) for name in ("Launch", "Synchronize")}
    kind, spent = (DeviceType.CUDA, "self_device_time_total") if on_gpu else (DeviceType.CPU, "self_cpu_time_total")
    busy = sum(getattr(event, spent) for event in events if event.device_type == kind) / 1e6
    facts = [f"{plain:.4f} s a step, {watched:.4f} while watched, of which the device works {busy / repeats:.4f} s"]
    if on_gpu:
        facts += [f"{asked['Launch'] / repeats:.0f} kernels and {asked['Synchronize'] / repeats:.0f} waits a step"]
    return "\n".join([*facts, events.table(sort_by=column, row_limit=40, max_name_column_width=80)])


class Elsewhere:
    """A step in a process of its own, which answers questions: a function of this module, and its further arguments."""

    def __init__(self, kind: type, *arguments: Any) -> None:
        self._pipe, theirs = mp.get_context("spawn").Pipe()
        self._process = mp.get_context("spawn").Process(target=serve, args=(theirs, kind, arguments), daemon=True)
        self._process.start()

    def ask(self, question: Callable, *arguments: Any) -> Any:
        """The answer."""
        self._pipe.send((question, arguments))
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def serve(pipe: Any, kind: type, arguments: tuple) -> None:
    """Make a step and answer questions about it until there is none."""
    torch.manual_seed(0)
    if kind is OurStep and not torch.cuda.is_available():
        keep_freed_memory()  # as a run does
    step = kind(*arguments)
    while (asked := pipe.recv()) is not None:
        question, further = asked
        pipe.send(question(*further) if question is memory else question(step, *further))


def triplets(options: argparse.Namespace, stage: int) -> int:
    """Of a batch: as many as asked for, or the paper's on a GPU."""
    return options.asked or ((64 if stage == 1 else 16) if options.device.type == "cuda" else 4)


def measure(options: argparse.Namespace, stage: int) -> None:
    """Print the rows of a stage: ours in every precision, and the published way."""
    options.triplets = triplets(options, stage)
    sizes = options.attributes, options.values
    ours = [f"ours, {precision}" for precision in options.precisions.split(",")]
    steps = {name: Elsewhere(OurStep, options, stage, name.removeprefix("ours, "), *sizes) for name in ours}
    steps[PUBLISHED] = Elsewhere(PublishedStep, options, stage, *sizes)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(options.turns + 1):
        for name, step in steps.items():
            measured = step.ask(turn, options.steps, options.device, options.clock)
            if number or options.turns == 0:  # the first turn warms up
                found[name].append(measured)
                print(
                    f"turn {number}, {name}: {measured[1]:.2f} s at a peak of {measured[0] / 1e9:.0f} GFLOP/s",
                    file=sys.stderr,
                    flush=True,
                )
    print(
        f"\nStage {stage}, {options.triplets} triplets, {options.attributes} attributes with {options.values} values\n\n"
        "| | s a step | images/s | times published | TFLOP | peak, GFLOP/s | utilisation | kept, GiB | in all, GiB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for name, turns in found.items():
        spent = statistics.median(each for _, each in turns)
        ratio = statistics.median(
            theirs / mine for (_, mine), (_, theirs) in zip(turns, found[PUBLISHED], strict=True)
        )
        plain, _, compiled = name.partition("+")  # what a compiled step does cannot be counted: it has the same to do
        work = steps[plain].ask(operations) if plain in steps else math.nan
        peak = statistics.median(peak for peak, _ in turns)
        used = statistics.median(work / each / peak for peak, each in turns)
        kept = f"{steps[name].ask(kept_bytes) / 2**30:.2f}" if name in ours and not compiled else ""
        print(
            f"| {name} | {spent:.3f} | {3 * options.triplets / spent:.2f} | {ratio:.2f} | {work / 1e12:.2f} | "
            f"{peak / 1e9:.0f} | {100 * used:.0f} % | {kept} | {steps[name].ask(memory, options.device):.1f} |"
        )
    for name in ours:
        shown = ", ".join(f"{part} {100 * share:.0f} %" for part, share in steps[name].ask(shares).items())
        print(f"\nparts of {name}: {shown}", flush=True)
    for step in steps.values():
        step.close()


def profiles(options: argparse.Namespace) -> None:
    """Print the profile of each stage in each precision."""
    for stage, precision in itertools.product(map(int, options.stages.split(",")), options.precisions.split(",")):
        options.triplets = triplets(options, stage)
        step = Elsewhere(OurStep, options, stage, precision, options.attributes, options.values)
        print(
            f"\nStage {stage}, {options.triplets} triplets, {precision}: {step.ask(profile, options.steps)}",
            flush=True,
        )
        step.close()


def growth(options: argparse.Namespace) -> None:
    """Print step time and memory over the sizes of the datasets, which take turns."""
    options.triplets = triplets(options, 2)
    precision, sizes = options.precisions.split(",")[-1], ((8, 54), (9, 179), (5, 1000))
    found: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    facts = {}
    for number in range(max(1, options.turns)):
        for size in sizes:  # one at a time: the queues of the largest alone are gigabytes
            step = Elsewhere(OurStep, options, 2, precision, *size)
            step.ask(turn, 1, options.device, options.clock)
            found[size].append(step.ask(turn, options.steps, options.device, options.clock)[1])
            facts[size] = (*step.ask(queue_bytes), step.ask(memory, options.device))
            print(f"turn {number}, {size}: {found[size][-1]:.2f} s", file=sys.stderr, flush=True)
            step.close()
    print(
        f"{options.triplets} triplets in {precision}\n\n"
        "| attributes / values | s a step | queues, MiB | by formula, MiB | in all, GiB |\n|---|---|---|---|---|"
    )
    for (attributes, values), spent in found.items():
        held, dim, total = facts[attributes, values]
        formula = 2 * values * options.queue_length * dim * 4
        print(
            f"| {attributes} / {values} | {statistics.median(spent):.2f} | {held / 2**20:.0f} | {formula / 2**20:.0f} | "
            f"{total:.1f} |"
        )


def queue_bytes(step: OurStep) -> tuple[int, int]:
    """Memory of the queues, and the width of their features."""
    clusters = step.objective.memory
    return clusters.nbytes, clusters.queues["spatial"].storage.shape[1]


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ipad_resnet50_vitb16")
    parser.add_argument("--triplets", type=int, dest="asked", help="of a batch")
    parser.add_argument("--detail-size", type=int, default=448, help="side of the images, pixels")
    parser.add_argument("--attributes", type=int, default=8, help="of the dataset; FashionAI has 8")
    parser.add_argument("--values", type=int, default=54, help="of the dataset; FashionAI has 54")
    parser.add_argument("--queue-length", type=int, default=1000)
    parser.add_argument(
        "--precisions", default="bf16" if cuda else "no,bf16", help="no, bf16, bf16+compile, with commas"
    )
    parser.add_argument("--stages", default="1,2")
    parser.add_argument("--turns", type=int, default=5 if cuda else 3)
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, help="of a turn")
    parser.add_argument("--growth", action="store_true", help="step time and memory over the number of values instead")
    parser.add_argument("--profile", action="store_true", help="what each operator of a step costs instead")
    parser.add_argument("--cpu-time", action="store_true", help="count what the processor worked, for a busy machine")
    options = parser.parse_args()
    if options.cpu_time and (cuda or torch.get_num_threads() > 1):
        parser.error("--cpu-time is for a CPU with OMP_NUM_THREADS=1: threads that wait for each other count as well")
    options.clock = time.process_time if options.cpu_time else time.perf_counter
    options.device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.model}, torch {torch.__version__}, {where}")
    if options.growth or options.profile:
        (growth if options.growth else profiles)(options)
        return
    for stage in options.stages.split(","):
        measure(options, int(stage))


if __name__ == "__main__":
    main()
