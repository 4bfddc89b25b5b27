"""Time and peak memory of searching and re-ranking as the gallery grows tenfold, up to a memory map of 1e6 x 256.

python benchmarks/rerank_scale.py [--largest 1000000] [--dim 256] [--queries 1000]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ipad_rerank import FeatureReasoning, rank


def measure(path: Path, rows: int, dim: int, queries: int, k: int) -> None:
    """Prints one row of the table; runs in a process of its own, for its peak memory."""
    torch.set_num_threads(1)
    gallery = np.load(path, mmap_mode="r")[:rows]
    query = np.random.default_rng(1).standard_normal((queries, dim), dtype=np.float32)
    reasoner = FeatureReasoning(n_r=k)
    torch.nn.init.normal_(reasoner.network.last.weight, std=1e-3)
    base = peak()
    start = time.process_time()
    ranking = rank(query, gallery, k=k)
    searched, after_search = time.process_time() - start, peak()
    start = time.process_time()
    reasoner.rerank(query, gallery, ranking)
    print(
        f"| {rows:,} | {searched:.1f} | {time.process_time() - start:.1f} | {base:.2f} | {after_search:.2f} "
        f"| {peak():.2f} |",
        flush=True,
    )


def peak() -> float:
    """GB resident at most so far in this process, what is mapped from files included (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(Path(arguments.one[0]), int(arguments.one[1]), arguments.dim, arguments.queries, arguments.k)
        return
    print(f"{arguments.queries:,} queries, d = {arguments.dim}, k = n_r = {arguments.k}, CPU seconds of one thread\n")
    print(
        "| gallery | search, s | re-rank, s | GB at start | GB after search | GB at most |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        shape = (arguments.largest, arguments.dim)
        gallery = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        rng = np.random.default_rng(0)
        for start in range(0, arguments.largest, 50_000):
            stop = min(start + 50_000, arguments.largest)
            gallery[start:stop] = rng.standard_normal((stop - start, arguments.dim), dtype=np.float32)
        del gallery
        rows = arguments.largest // 1000
        while rows <= arguments.largest:
            if rows >= 1000:
                own = [sys.executable, __file__, "--one", str(path), str(rows), "--dim", str(arguments.dim)]
                own += ["--queries", str(arguments.queries), "--k", str(arguments.k)]
                subprocess.run(own, check=True)
            rows *= 10


if __name__ == "__main__":
    main()
