"""k-reciprocal re-ranking: time and peak memory as the gallery grows, against the dense algorithm as published.

    python benchmarks/k_reciprocal_memory.py                          # galleries of 1,000, 10,000 and 100,000
    python benchmarks/k_reciprocal_memory.py --sizes 1000,10000       # what fits a coffee break

Each measurement runs in a process of its own with one thread. Memory is what the process holds at its peak beyond what
it held before the call (interpreter, torch, input); time is CPU time. The dense version is the straightforward one with
full matrices; it is left out where its four matrices of (Q + G)^2 float32 would not fit into --dense-gigabytes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np


def clusters(count: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(count // 50, 2), dim))
    return (centers[rng.integers(0, len(centers), count)] + 0.8 * rng.normal(size=(count, dim))).astype(np.float32)


def dense_k_reciprocal(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lambda_value: float) -> np.ndarray:
    """Distances ``(Q, G)``: every matrix in full, one vector at a time."""
    vectors = np.concatenate([query, gallery])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    distance = np.maximum(2 - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(distance, 0)
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1).astype(np.int32)

    def reciprocal(i: int, k: int) -> np.ndarray:
        forward = order[i, : k + 1]
        return forward[(order[forward, : k + 1] == i).any(axis=1)]

    encodings = np.zeros((count, count), dtype=np.float32)
    for i in range(count):
        core = expanded = reciprocal(i, k1)
        for j in core:
            half = reciprocal(j, round(k1 / 2))
            if len(np.intersect1d(half, core)) > 2 / 3 * len(half):
                expanded = np.append(expanded, half)
        expanded = np.unique(expanded)
        weights = np.exp(-distance[i, expanded])
        encodings[i, expanded] = weights / weights.sum()
    if k2 > 1:
        encodings = np.stack([encodings[order[i, :k2]].mean(axis=0) for i in range(count)])
    jaccard = np.empty((len(query), count), dtype=np.float32)
    columns = [np.flatnonzero(encodings[:, n]) for n in range(count)]
    for i in range(len(query)):
        shared = np.zeros(count, dtype=np.float32)
        for n in np.flatnonzero(encodings[i]):
            shared[columns[n]] += np.minimum(encodings[i, n], encodings[columns[n], n])
        jaccard[i] = 1 - shared / (2 - shared)
    return ((1 - lambda_value) * jaccard + lambda_value * distance[: len(query)])[:, len(query) :]


def measure(way: str, gallery: int, queries: int, dim: int, k: int, seed: int = 0) -> dict[str, float]:
    """Run one of the two here, in this process."""
    import torch

    from ipad_rerank import k_reciprocal

    torch.set_num_threads(1)
    vectors = clusters(queries + gallery, dim, seed)
    query, rest = vectors[:queries].copy(), vectors[queries:].copy()
    k_reciprocal(query[:2], rest[:50])  # load what is loaded lazily
    del vectors
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if way == "ours":
        top = k_reciprocal(query, rest, k=k).indices
    else:
        top = np.argsort(dense_k_reciprocal(query, rest, 20, 6, 0.3), axis=1)[:, :k]
    seconds = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "megabytes": peak, "top": top[:20, :20].tolist()}


def in_a_process(way: str, gallery: int, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", way, "--sizes", str(gallery)]
    command += ["--queries", str(arguments.queries), "--dim", str(arguments.dim), "--k", str(arguments.k)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="galleries, with commas between")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--dense-gigabytes", type=float, default=4.0)
    parser.add_argument("--measure", choices=["ours", "dense"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, sizes[0], arguments.queries, arguments.dim, arguments.k)))
        return
    print(f"{arguments.queries} queries, {arguments.dim} dimensions, k1 20, k2 6, lambda 0.3, top {arguments.k}")
    print("| gallery | ours: CPU s | ours: MB | dense: CPU s | dense: MB | faster | less memory | same top 20 |")
    print("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        ours = in_a_process("ours", size, arguments)
        row = f"| {size:,} | {ours['seconds']:.1f} | {ours['megabytes']:.0f} "
        if 16 * (size + arguments.queries) ** 2 > arguments.dense_gigabytes * 2**30:
            needed = 16 * (size + arguments.queries) ** 2 / 1e9
            print(f"{row}| - | about {needed:,.0f} GB | | | |", flush=True)
            continue
        dense = in_a_process("dense", size, arguments)
        same = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(ours["top"], dense["top"], strict=True)])
        print(
            f"{row}| {dense['seconds']:.1f} | {dense['megabytes']:.0f} | {dense['seconds'] / ours['seconds']:.1f} x "
            f"| {dense['megabytes'] / max(ours['megabytes'], 1):.1f} x | {same:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
