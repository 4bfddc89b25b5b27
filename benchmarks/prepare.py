"""Images per second of one core's time, from large originals and from what ``ipad-data prepare`` made of them.

Three readers in one run, in turns, by CPU time, so that the ratios do not depend on how busy the machine is: PIL (open,
convert, resize) and this package on the originals, this package on the prepared Parquet shards. Run
``python benchmarks/prepare.py``; it needs about a minute and no data.
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
from datasets import Dataset, DatasetDict, Features, disable_progress_bars
from PIL import Image

from ipad_data import AttributeSchema, BatchDataset
from ipad_data.builders._base import make_row, row_features
from ipad_data.prepare import prepare
from ipad_data.prepared import load_prepared
from ipad_data.samplers.plan import BatchPlan

SCHEMA = AttributeSchema({"color": ["red", "blue"]})


def write_photo(path: Path, width: int, height: int, rng: np.random.Generator) -> None:
    """A JPEG with the detail of a photo: shapes at all scales and sensor noise."""
    canvas = np.zeros((height, width, 3), dtype=np.float32)
    for cells in (4, 16, 64, 256):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        layers = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        canvas += np.stack([np.asarray(layer) for layer in layers], axis=2) * 60 / cells**0.5
    canvas += rng.normal(scale=4, size=canvas.shape).astype(np.float32) + 128
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=90)


def read_with_pil(paths: list[str], size: int) -> torch.Tensor:
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def plan_of(rows: np.ndarray) -> BatchPlan:
    zeros = np.zeros(len(rows), dtype=np.int64)
    return BatchPlan(rows=rows, image_index=np.arange(len(rows)), attribute_ids=zeros, value_ids=zeros)


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(width: int, height: int, count: int, size: int, detail_size: int, repeats: int, folder: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(count)]
    for path in paths:
        write_photo(Path(path), width, height, rng)
    rows = [make_row(path, i, [(0, 0, 0)]) for i, path in enumerate(paths)]
    originals = Dataset.from_list(rows, features=Features(row_features(SCHEMA)))
    spent = seconds(lambda: prepare(DatasetDict(train=originals), folder / "out", size=size, workers=1))
    prepared = load_prepared(folder / "out", "train", cache_dir=folder / "cache")
    plan = plan_of(np.arange(count))
    readers = {
        "PIL, originals": lambda: read_with_pil(paths, detail_size),
        "ipad-data, originals": lambda: BatchDataset(originals, detail_size)[plan],
        "ipad-data, prepared": lambda: BatchDataset(prepared, detail_size)[plan],
    }
    times = {name: [] for name in readers}
    for turn in range(repeats + 1):
        for name, reader in readers.items():
            spent_now = seconds(reader)
            if turn:  # the first turn warms up
                times[name].append(spent_now)
    ours = times["ipad-data, prepared"]
    print(f"\n{count} originals of {width} x {height}, prepared at {size} in {spent:.1f} s, read at {detail_size}:")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, ours, strict=True))
        print(f"  {name:22} {count / statistics.median(taken):8.1f} images/s   prepared: {ratio:5.1f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    for width, height, size, detail_size in (
        (3000, 4000, 512, 448),
        (3000, 4000, 448, 448),
        (3000, 4000, 224, 224),
        (1200, 1600, 512, 448),
        (1200, 1600, 448, 448),
        (1200, 1600, 224, 224),
    ):
        with tempfile.TemporaryDirectory() as folder:
            measure(width, height, options.count, size, detail_size, options.repeats, Path(folder))


if __name__ == "__main__":
    main()
