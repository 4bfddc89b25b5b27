"""A training step of the paper's networks: images a second, where the time goes, memory, and the published way beside it.

    python benchmarks/train_step.py                        # paper's sizes: 64 and 16 triplets in bf16 on a GPU, 4 on a CPU
    python benchmarks/train_step.py --precisions no,bf16   # both precisions in one run, for the ratios
    python benchmarks/train_step.py --growth               # step time and queue memory from 8/54 to 5/1000 values
    python benchmarks/train_step.py --model ipad_tiny --triplets 2 --detail-size 64 --turns 1 --queue-length 5    # seconds

Ours is the step of `ipad_train.loop`, on images that lie on the device as uint8: augmentation, forward, backward,
optimizer, then the momentum encoder, the queues and their centers. Stage 1 trains IP-SP, stage 2 both branches with
the cluster loss on.

The published way is a straightforward implementation of what RPF's public loop does, with our layers. Each part of the
triplets goes through the network by itself, an image for each entry. The attention maps go to the CPU, and each image
is cropped there by PIL. It is float32, without momentum encoder and clusters, which that code does not train. It takes
turns with ours.

- images/s: images of a batch (3 a triplet) by the seconds of a step, the median over the turns.
- share: each part's seconds, measured in a turn of its own that waits for the device after each part.
- utilisation: floating-point operations of the step (forward, backward and momentum pass, by torch's counter) by the
  seconds, in percent of the fastest product of two matrices on this machine in the same precision.
- kept: bytes that autograd keeps from forward to backward; on a GPU also the peak of its memory.

Run it on a machine that does nothing else, and say which one: `lscpu | grep "Model name"`, or `nvidia-smi -L`. On a
CPU a turn of stage 2 at the paper's sizes takes about half a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ipad_core import create_model
from ipad_data import BatchAugmentation
from ipad_train.config import ClusterConfig, LossConfig, StageConfig
from ipad_train.objectives import AttributeDiverging, BranchClusters, MetricLearning, Objective
from ipad_train.optim import build_optimizer
from ipad_train.step_inputs import AugmentedImages, StepSeed

PARTS = ("augmentation", "forward", "backward", "optimizer", "momentum and queues")


class OurStep:
    """The step of a stage, part by part.

    Args:
        options: Of the command line.
        stage: 1 or 2.
        precision: no or bf16.
        attributes, values: A and V of the dataset.
    """

    def __init__(self, options: argparse.Namespace, stage: int, precision: str, attributes: int, values: int) -> None:
        self.device, self.precision, self.number = options.device, precision, 0
        second = {} if stage == 2 else {"semantic": False}
        model = create_model(options.model, num_attributes=attributes, **second)
        owners = torch.arange(values) * attributes // values
        if stage == 1:
            objective: Objective = MetricLearning(model, "triplet", 0.2)
        else:
            settings = ClusterConfig(queue_length=options.queue_length, refresh_every=50)
            clusters = BranchClusters(model, settings, torch.full((values,), 1000), owners, 0.2, 1000, True)
            clusters._started = True
            objective = AttributeDiverging(model, "triplet", LossConfig(), clusters, True)
        self.objective = objective.to(self.device, memory_format=torch.channels_last).train()
        if objective.memory is not None:
            objective.memory.to(self.device)
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


class PublishedStep:
    """The published way of stage 1 or 2, see the module's first lines."""

    def __init__(self, options: argparse.Namespace, stage: int, attributes: int, values: int) -> None:
        self.device, self.stage = options.device, stage
        self.model = create_model(options.model, num_attributes=attributes).to(self.device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-5)
        self.batch = triplet_batch(options, torch.arange(values) * attributes // values)
        self.pictures = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in self.batch["images"]]

    def __call__(self) -> None:
        model, third = self.model, len(self.batch["images"]) // 3
        spatial, semantic = [], []
        for part in range(3):
            rows = slice(part * third, (part + 1) * third)
            images, ids = self.batch["images"][rows], self.batch["attribute_ids"][rows]
            small = model.trunk_input(model.normalized(images))
            features = model.spatial(model.spatial.trunk(small), ids, torch.arange(third, device=self.device), False)
            spatial.append(features.embedding)
            if self.stage == 2:
                maps = features.maps[:, -1].detach().cpu().numpy()
                crops = [self._crop(picture, map_) for picture, map_ in zip(self.pictures[rows], maps, strict=True)]
                semantic.append(model.semantic(model.normalized(torch.stack(crops).to(self.device)), ids))
        loss = triplet_loss(*spatial)
        if self.stage == 2:
            loss = loss + triplet_loss(*semantic)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _crop(self, picture: Image.Image, attention: np.ndarray) -> torch.Tensor:
        """``(3, S, S)`` of the box around what the map attends to, by PIL."""
        relative = (attention - attention.min()) / max(attention.max() - attention.min(), 1e-12)
        inside = np.asarray(Image.fromarray((relative * 255).astype(np.uint8)).resize(picture.size)) >= 25
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        side = self.model.crop_size
        return torch.from_numpy(np.array(picture.crop(box).resize((side, side)))).permute(2, 0, 1)


def triplet_loss(anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Eq. 14 as one writes it down."""
    gap = F.cosine_similarity(anchor, positive) - F.cosine_similarity(anchor, negative)
    return F.relu(0.2 - gap).mean()


def triplet_batch(options: argparse.Namespace, owners: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random images on the device, and the ids of triplets of random values."""
    generator = torch.Generator().manual_seed(0)
    count, side = options.triplets, options.detail_size
    values = torch.randint(len(owners), (count,), generator=generator)
    others = (values + 1) % len(owners)
    value_ids = torch.cat([values, values, others])
    entries = torch.arange(3 * count)
    batch = {
        "images": torch.randint(0, 256, (3 * count, 3, side, side), generator=generator, dtype=torch.uint8),
        "rows": entries, "image_index": entries, "image_ids": entries, "value_ids": value_ids,
        "attribute_ids": owners[values].repeat(3),
    }  # fmt: skip
    return {name: tensor.to(options.device) for name, tensor in batch.items()}


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(step: Callable[[], None], repeats: int, device: torch.device) -> float:
    """Mean seconds of a step."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    wait(device)
    return (time.perf_counter() - start) / repeats


def shares(step: OurStep) -> dict[str, float]:
    """Share of each part in a step that waits after each."""
    wait(step.device)
    spent, before = {}, time.perf_counter()
    for part in step.parts():
        wait(step.device)
        now = time.perf_counter()
        spent[part], before = now - before, now
    return {part: spent[part] / sum(spent.values()) for part in PARTS}


def operations(step: OurStep) -> int:
    """Floating-point operations of a step."""
    counter = FlopCounterMode(display=False)
    with counter:
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


def matrix_peak(precision: str, device: torch.device) -> float:
    """Operations a second of the fastest of some products of square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for side in (4096, 8192) if device.type == "cuda" else (1024, 2048):
        one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        spent = [seconds(lambda one=one, other=other: one @ other, 3, device) for _ in range(4)]
        best = max(best, 2 * side**3 / min(spent))
    return best


def measure(options: argparse.Namespace, stage: int) -> None:
    """Print the rows of a stage: ours in every precision, and the published way."""
    options.triplets = options.asked or ((64 if stage == 1 else 16) if options.device.type == "cuda" else 4)
    ours = {p: OurStep(options, stage, p, options.attributes, options.values) for p in options.precisions.split(",")}
    steps: dict[str, Callable[[], None]] = {f"ours, {name}": step for name, step in ours.items()}
    steps["the published way, float32"] = PublishedStep(options, stage, options.attributes, options.values)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.turns + 1):
        for name, step in steps.items():
            spent = seconds(step, options.steps, options.device)
            if turn or options.turns == 0:  # the first turn warms up
                found[name].append(spent)
    published = found["the published way, float32"]
    print(
        f"\nStage {stage}, {options.triplets} triplets, {options.attributes} attributes with {options.values} values"
    )
    print("| | s a step | images/s | times the published way | utilisation | kept, GiB |")
    print("|---|---|---|---|---|---|")
    for name, spent in found.items():
        median = statistics.median(spent)
        ratio = statistics.median(theirs / mine for theirs, mine in zip(published, spent, strict=True))
        row = f"| {name} | {median:.3f} | {3 * options.triplets / median:.2f} | {ratio:.2f} |"
        precision = name.removeprefix("ours, ")
        if precision not in ours:
            print(row + " | |")
            continue
        utilisation = operations(ours[precision]) / median / matrix_peak(precision, options.device)
        print(f"{row} {100 * utilisation:.0f} % | {kept_bytes(ours[precision]) / 2**30:.2f} |")
    for precision, step in ours.items():
        print(f"parts in {precision}: " + ", ".join(f"{part} {100 * s:.0f} %" for part, s in shares(step).items()))
    if options.device.type == "cuda":
        print(f"peak of the GPU's memory, all of these in turn: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def growth(options: argparse.Namespace) -> None:
    """Print step time and queue memory over the sizes of the datasets."""
    options.triplets = options.asked or (16 if options.device.type == "cuda" else 4)
    precision = options.precisions.split(",")[-1]
    print("| attributes / values | s a step | queues, MiB | by formula, MiB |\n|---|---|---|---|")
    for attributes, values in ((8, 54), (9, 179), (5, 1000)):
        step = OurStep(options, 2, precision, attributes, values)
        step()
        spent = statistics.median(seconds(step, options.steps, options.device) for _ in range(max(1, options.turns)))
        clusters = step.objective.memory
        dim = clusters.queues["spatial"].storage.shape[1]
        formula = 2 * values * options.queue_length * dim * 4
        print(
            f"| {attributes} / {values} | {spent:.3f} | {clusters.nbytes / 2**20:.0f} | {formula / 2**20:.0f} |",
            flush=True,
        )


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ipad_resnet50_vitb16")
    parser.add_argument("--triplets", type=int, dest="asked", help="of a batch")
    parser.add_argument("--detail-size", type=int, default=448, help="side of the images, pixels")
    parser.add_argument("--attributes", type=int, default=8, help="of the dataset; FashionAI has 8")
    parser.add_argument("--values", type=int, default=54, help="of the dataset; FashionAI has 54")
    parser.add_argument("--queue-length", type=int, default=1000)
    parser.add_argument("--precisions", default="bf16" if cuda else "no,bf16", help="no, bf16, or both with a comma")
    parser.add_argument("--stages", default="1,2")
    parser.add_argument("--turns", type=int, default=5 if cuda else 3)
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, help="of a turn")
    parser.add_argument("--growth", action="store_true", help="step time and memory over the number of values instead")
    options = parser.parse_args()
    options.device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.model}, torch {torch.__version__}, {where}")
    if options.growth:
        growth(options)
        return
    for stage in options.stages.split(","):
        measure(options, int(stage))


if __name__ == "__main__":
    main()
