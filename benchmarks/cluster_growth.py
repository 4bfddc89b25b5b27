"""What grows with the number of values: queues, centers and the cluster loss, from FashionAI's sizes to DeepFashion's.

    python benchmarks/cluster_growth.py --queue-length 1000     # D = 1,024, 12 entries a step, both branches

Network, crops and the losses between entries do not depend on the number of values; `train_step.py --growth` measures whole
steps. Times are processor time of one thread, of both branches together. Memory is what the process grew by when the queues
had been filled, beside the formula 2 x values x length x D x bytes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ipad_core.clustering import ClusterCenters, FeatureQueue
from ipad_core.losses import ClusterCenterLoss

SIZES = ((8, 54), (9, 179), (5, 1000))


def own_memory() -> int:
    """Bytes of this process that are its own."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median processor time, after a turn that warms up."""
    spent = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1000 * statistics.median(spent[1:])


def row(options: argparse.Namespace, attributes: int, values: int) -> str:
    """Measurements of one size."""
    dtype, before = getattr(torch, options.dtype), own_memory()
    queues = [FeatureQueue(values, options.queue_length, options.dim, dtype) for _ in range(2)]
    for queue in queues:
        queue.storage.copy_(torch.randn(1, options.dim).expand_as(queue.storage))
        queue.count.fill_(options.queue_length)
    held = own_memory() - before
    centers = [ClusterCenters(values, options.dim) for _ in range(2)]
    loss = ClusterCenterLoss(torch.arange(values) * attributes // values, 0.2)
    ids = torch.randint(values, (options.entries,))
    features = torch.randn(options.entries, options.dim, requires_grad=True)

    def enqueue() -> None:
        for queue in queues:
            queue.enqueue(features.detach(), ids)

    def refresh() -> None:
        for queue, center in zip(queues, centers, strict=True):
            center.refresh(queue)

    def learn() -> None:
        for center in centers:
            loss(features, center.centers, center.valid, ids, torch.arange(len(ids))).backward()

    refresh()
    times = [milliseconds(work, options.repeats) for work in (enqueue, learn, refresh)]
    formula = 2 * values * options.queue_length * options.dim * dtype.itemsize
    shown = " | ".join(f"{each:.1f}" for each in times)
    return f"| {attributes} / {values} | {shown} | {held / 2**20:.0f} | {formula / 2**20:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queue-length", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--entries", type=int, default=12, help="of a step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the queues")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        "| attributes / values | queue, ms | loss and its gradient, ms | centers, ms | memory, MiB | by formula, MiB |\n"
        "|---|---|---|---|---|---|"
    )
    for attributes, values in SIZES:
        print(row(options, attributes, values), flush=True)


if __name__ == "__main__":
    main()
