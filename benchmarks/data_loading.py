"""Images a second and core: ipad-data's batches against a plain pipeline of PIL and torch, one image at a time.

Both start from the same JPEG files and end at a flipped float batch in [0, 1] on the CPU. The two take turns, each
turn goes once through the images, and the ratio is the median over the turns, so a busy machine slows both alike.

    python benchmarks/data_loading.py --images 96 --turns 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features
from PIL import Image

from ipad_data import AttributeSchema, BatchAugmentation, BatchDataset, EvaluationPlans
from ipad_data.builders._base import make_row, row_features

BATCH = 32


def write_photos(folder: Path, count: int, width: int, height: int) -> list[str]:
    """JPEG photos of smooth colours with some texture, as large as a shop's originals."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 18, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = pixels + rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
        path = folder / f"{i:04d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def make_dataset(paths: list[str]) -> Dataset:
    """Dataset of this package over the files."""
    schema = AttributeSchema({"a": ["x", "y"]})
    rows = [make_row(path, i, [(0, i % 2, 0)]) for i, path in enumerate(paths)]
    return Dataset.from_list(rows, features=Features(row_features(schema)))


def plain_pipeline(paths: list[str], size: int) -> Callable[[], int]:
    """Open, convert, resize, flip and convert to float one by one, then stack: what a dataset class usually does."""
    generator = torch.Generator().manual_seed(0)

    def load(path: str) -> torch.Tensor:
        image = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return tensor.flip(-1) if torch.rand((), generator=generator) < 0.5 else tensor

    def run() -> int:
        batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        return sum(len(torch.stack([load(path) for path in batch])) for batch in batches)

    return run


def our_pipeline(paths: list[str], size: int) -> Callable[[], int]:
    """Whole batches: reduced decoding, uint8 hand-over, flips in one operation."""
    dataset = make_dataset(paths)
    batches, augment = BatchDataset(dataset, size), BatchAugmentation(flip=0.5)
    plans = list(EvaluationPlans(dataset, BATCH, roles=["train"]))
    generator = torch.Generator().manual_seed(0)
    return lambda: sum(len(augment(batches[plan]["images"], generator)) for plan in plans)


def compare(paths: list[str], size: int, turns: int) -> tuple[float, float, float]:
    """Images per second of CPU time of (plain, ours), and the median ratio."""
    pipelines = plain_pipeline(paths, size), our_pipeline(paths, size)
    rates: list[tuple[float, ...]] = []
    for turn in range(turns + 1):
        turn_rates = []
        for run in pipelines:
            start = time.process_time()
            count = run()
            turn_rates.append(count / (time.process_time() - start))
        if turn:  # the first one warms up
            rates.append(tuple(turn_rates))
    plain, ours = (statistics.median(column) for column in zip(*rates, strict=True))
    return plain, ours, statistics.median(b / a for a, b in rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--originals", default="2400x3200,1200x1600,512x512,256x256", help="their sizes, pixels")
    parser.add_argument("--size", type=int, default=256, help="side of the loaded images in pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| originals | plain PIL + torch, images/s per core | ipad-data | ratio |\n|---|---|---|---|")
    for width, height in (map(int, each.split("x")) for each in arguments.originals.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            paths = write_photos(Path(folder), arguments.images, width, height)
            plain, ours, ratio = compare(paths, arguments.size, arguments.turns)
        print(f"| {width} x {height} | {plain:.0f} | {ours:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
