"""What evaluation needs at the sizes of the published test sets: seconds and memory of MAP, on random unit vectors.

    python benchmarks/evaluation_scale.py                     # FashionAI: 3,600 queries, 14,400 candidates, D = 1,024
    python benchmarks/evaluation_scale.py --size darn         # 20 values an attribute, 200,000 candidates
    python benchmarks/evaluation_scale.py --size deepfashion  # 200 values an attribute, 200,000 candidates
    python benchmarks/evaluation_scale.py --queries 100 --gallery 400 --dim 16     # seconds

The vectors lie in a folder of shards, as `ipad_train embed` writes them, and are joined by `ipad-rerank join` into a file
that is read as a memory map. Each query meets the candidates of its attribute, as in the papers; with `--together` it meets
the whole gallery. `--share 0.1` evaluates every tenth query and prints what all would take. Memory is what the process held
beyond Python and its libraries, without the pages of the map, which the system may drop.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from ipad_rerank import read_embeddings, retrieval_map, write_embeddings
from ipad_rerank.files.shards import join_shards, shard_path, write_index

SIZES = {  # queries, candidates, attributes, values
    "fashionai": (3_600, 14_400, 8, 54),
    "darn": (50_000, 200_000, 9, 179),
    "deepfashion": (50_000, 200_000, 5, 1000),
}
SHARD = 16_384


class PeakMemory:
    """Samples the memory of this process that is its own while a block runs: RssAnon, every 20 ms."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = _own_memory()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def gib(self) -> float:
        """Beyond what there was at the start."""
        return (self.peak - self.start) / 2**30

    def _watch(self) -> None:
        while not self._ends.wait(0.02):
            self.peak = max(self.peak, _own_memory())


def _own_memory() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_shards(folder: Path, queries: int, gallery: int, attributes: int, values: int, dim: int) -> None:
    """Entries of random values, their vectors around a center of the value; queries first."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(values, dim, generator=generator)
    owner = torch.arange(values) * attributes // values
    files = []
    for number, start in enumerate(range(0, queries + gallery, SHARD)):
        rows = torch.arange(start, min(start + SHARD, queries + gallery))
        labels = torch.randint(values, (len(rows),), generator=generator)
        vectors = centers[labels] + 4 * torch.randn(len(rows), dim, generator=generator)
        files.append(shard_path(folder, number))
        write_embeddings(
            files[-1],
            torch.nn.functional.normalize(vectors).numpy(),
            labels=labels.numpy(),
            ids=rows.numpy(),
            group_ids=owner[labels].numpy(),
            roles=torch.where(rows < queries, 1, 2).numpy(),
        )
    write_index(folder, files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="fashionai")
    parser.add_argument("--queries", type=int)
    parser.add_argument("--gallery", type=int)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--share", type=float, default=1.0, help="of the queries that are evaluated")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args()
    queries, gallery, attributes, values = SIZES[options.size]
    queries, gallery = options.queries or queries, options.gallery or gallery
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, joined = Path(name), Path(name) / "all.npy"
        write_shards(folder, queries, gallery, attributes, values, options.dim)
        with PeakMemory() as memory:
            start = time.perf_counter()
            join_shards(folder, joined)
            seconds = time.perf_counter() - start
        print(f"join of {queries + gallery} x {options.dim}: {seconds:.1f} s, {memory.gib:.2f} GiB")
        with PeakMemory() as memory:
            data = read_embeddings(joined)
            asked = np.flatnonzero(data.roles == 1)[:: round(1 / options.share)]
            query, items = data.embeddings[asked], data.embeddings[queries:]
            groups = (None, None) if options.together else (data.group_ids[asked], data.group_ids[queries:])
            start = time.perf_counter()
            value = retrieval_map(query, items, data.labels[asked], data.labels[queries:], *groups, progress=False)
            seconds = time.perf_counter() - start
        shown = f"{seconds:.1f} s for {len(asked)} of {queries} queries"
        shown += f", {seconds * queries / len(asked):.0f} s for all" if len(asked) < queries else ""
        met = "the whole gallery" if options.together else "the gallery of the attribute"
        print(
            f"MAP {100 * value:.2f} % against {gallery} candidates, {met}: {shown}; {memory.gib:.2f} GiB, the map apart"
        )
        print(f"{torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
