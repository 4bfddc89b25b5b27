"""How much faster batched, closed-form Feature Reasoning is than a straightforward one, in CPU time of one thread.

The peer below writes Eq. 12 and 13 down as they read: query by query, node by node, one subgraph through the network at
a time, and each node's gradient asked of autograd. ``--peer-gradient once`` lets the peer ask autograd for all nodes at
once, which is kinder to it. Usage: ``python benchmarks/feature_reasoning_speed.py [--n-r 500] [--dim 1024]``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_rerank import FeatureReasoning, rank
from ipad_rerank.rerankers.feature_reasoning import refiner as module

PARTS = {
    "sort": ("sort_nodes",),
    "gather/scatter": ("gather_rows", "scatter_updates"),
    "step (matrix products)": ("feature_step", "gram_step"),
}


def straightforward(reasoner: FeatureReasoning, sequence: Tensor, gradient: str) -> Tensor:
    """One sequence ``(n, D)`` -> the query's refined cosines."""
    network, n = reasoner.network, len(sequence)
    features = sequence.clone()
    for _ in range(reasoner.n_t):
        unit = features / features.norm(dim=1, keepdim=True)
        similarity = unit @ unit.T
        update = torch.zeros(n, n)
        for i in range(n):
            own_first = similarity[i].clone()
            own_first[i] = float("inf")
            order = torch.argsort(own_first, descending=True, stable=True)
            delta = torch.cat([similarity[i, order], similarity[0, order]])
            row, other = delta[:n], delta[n:]
            spread, other_spread = (x.var(unbiased=False).clamp_min(1e-6).sqrt() for x in (row, other))
            distances = (1 - torch.stack([row.mean(), other.mean(), other[0]])).clamp_min(1e-3).log()
            z = (other[0] - other.mean()) / other_spread
            length = torch.tensor(n / reasoner.n_r).log()
            density = torch.cat([distances, torch.stack([spread.log(), other_spread.log(), z, length])])
            delta = F.layer_norm(delta, (2 * n,)) * network.scale + network.shift
            hidden = F.relu(network.first(delta) + network.density(density))
            output = network.last(F.relu(network.hidden(hidden)))
            update[i, order] += output[:n]
            update[0, order] += output[n:]
        target = (similarity + update).detach()
        if gradient == "once":
            leaf = features.detach().requires_grad_()
            (slope,) = torch.autograd.grad(distance(leaf, target), leaf)
        else:
            rows = []
            for i in range(n):  # Eq. 13: for each i, the derivative with respect to f_i
                leaf = features[i].detach().requires_grad_()
                rows.append(torch.autograd.grad(distance_of_node(leaf, features.detach(), i, target), leaf)[0])
            slope = torch.stack(rows)
        features = features.detach() - reasoner.step_size / n * slope
    unit = F.normalize(features, dim=1)
    return unit @ unit[0]


def distance(features: Tensor, target: Tensor) -> Tensor:
    unit = features / features.norm(dim=1, keepdim=True)
    return 0.5 * (target - unit @ unit.T).square().sum()


def distance_of_node(own: Tensor, features: Tensor, i: int, target: Tensor) -> Tensor:
    return distance(torch.cat([features[:i], own[None], features[i + 1 :]]), target)


def cpu_seconds(work: Callable[[], object], least: float = 2.0) -> float:
    """CPU seconds of one call: the best of several."""
    best, total = float("inf"), 0.0
    while total < least:
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        total += best
    return best


def operations(reasoner: FeatureReasoning, n: int, dim: int) -> dict[str, float]:
    """Floating-point operations of one query, counted in matrix products (Gram space)."""
    width, rounds = reasoner.hidden_width, reasoner.n_t
    network = rounds * n * 2 * (2 * n * width + width * width + 2 * n * width)
    gram = 2 * n * n * dim
    steps = rounds * 2 * n**3 + (rounds - 1) * 2 * n**3 + 2 * n * n
    return {"similarities": gram, "network": network, "step (matrix products)": steps}


@contextlib.contextmanager
def measured(reasoner: FeatureReasoning, spent: dict[str, float]) -> Iterator[None]:
    """Add up the CPU time of each part."""
    saved = {}

    def timed(part: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                spent[part] = spent.get(part, 0.0) + time.process_time() - start

        return call

    for part, names in PARTS.items():
        for name in names:
            saved[name] = getattr(module, name)
            setattr(module, name, timed(part, saved[name]))
    forward = reasoner.network.forward
    reasoner.network.forward = timed("network", forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name, function in saved.items():
            setattr(module, name, function)
        reasoner.network.forward = forward  # type: ignore[method-assign]


def sequences(count: int, n: int, dim: int, device: str = "cpu") -> Tensor:
    """Queries with candidates of all degrees of similarity, negative ones included."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(count, 1, dim, generator=generator)
    mix = torch.linspace(0.7, -0.2, n - 1)[None, :, None]
    rest = mix * query + torch.randn(count, n - 1, dim, generator=generator)
    return F.normalize(torch.cat([query, rest], 1), dim=-1).to(device)


@torch.no_grad()
def shaken(**config: object) -> FeatureReasoning:
    """Random weights in the last layer, too, that vary slowly over the sorted positions, as trained ones do."""
    reasoner = FeatureReasoning(**config).eval()
    torch.manual_seed(0)
    last = reasoner.network.last
    last.weight.copy_(torch.randn_like(last.weight).cumsum(0) * 0.1 / last.out_features / last.in_features**0.5)
    return reasoner


@torch.no_grad()
def on_cpu(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    side = torch.randn(1500, 1500)
    peak = 2 * 1500**3 / cpu_seconds(lambda: side @ side)
    print(f"One thread, n_r = {arguments.n_r}, d = {arguments.dim}, {arguments.rounds} rounds.")
    print(f"Matrix peak measured here (1500 x 1500 float32): {peak / 1e9:.0f} GFLOP/s.\n")
    batch = sequences(4, arguments.n_r, arguments.dim)
    print("| hidden width | variant | queries/s | straightforward, queries/s | ratio | GFLOP/query | of the peak |")
    print("|---|---|---|---|---|---|---|")
    details = []
    for width in dict.fromkeys((arguments.width, 64)):
        reasoner = shaken(n_r=arguments.n_r, n_t=arguments.rounds, hidden_width=width)
        start = time.process_time()
        with torch.enable_grad():
            expected = straightforward(reasoner, batch[0], arguments.peer_gradient).detach()
        slow = time.process_time() - start
        count = sum(operations(reasoner, arguments.n_r, arguments.dim).values())
        for name in ("full, float32", "full, bfloat16 network", "query_only, float32"):
            reasoner.variant = name.split(",")[0]
            reasoner.low_precision = "bfloat16" in name
            each = cpu_seconds(lambda r=reasoner: r(batch)) / len(batch)
            shown = reasoner.variant == "full"
            work = f"{count / 1e9:.2f} | {count / each / peak:.0%}" if shown else "|"
            ratio = f"{1 / slow:.4f} | {slow / each:.0f}x" if shown else "(other maths) |"
            print(f"| {width} | {name} | {1 / each:.1f} | {ratio} | {work} |", flush=True)
            if name == "full, float32":
                error = (reasoner(batch)[0] - expected).abs().max().item()
                spent: dict[str, float] = {}
                start = time.process_time()
                with measured(reasoner, spent):
                    for _ in range(4):
                        reasoner(batch)
                total = time.process_time() - start
                spent["similarities and the rest"] = total - sum(spent.values())
                shares = ", ".join(f"{part} {value / total:.0%}" for part, value in spent.items())
                details.append(f"Hidden width {width}: {shares}. Largest difference from the peer: {error:.1e}.")
    print("\n" + "\n".join(details))


@torch.no_grad()
def on_gpu(arguments: argparse.Namespace) -> None:
    """Seconds of 3,600 queries against a gallery of 14,400, which all lie on the GPU: the median of five."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(144, arguments.dim, generator=generator)
    vectors = centers[torch.arange(18_000) % 144] + 3 * torch.randn(18_000, arguments.dim, generator=generator)
    query, gallery = torch.nn.functional.normalize(vectors).cuda().split([3_600, 14_400])
    search = gpu_seconds(lambda: rank(query, gallery, k=arguments.n_r))
    ranking = rank(query, gallery, k=arguments.n_r)
    print(
        f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}: 3,600 queries, gallery 14,400, d = {arguments.dim}"
    )
    print(f"n_r = {arguments.n_r}. The search takes {search:.3f} s.\n")
    print(
        "| hidden width | rounds | network | s | queries/s | TFLOP/s | GPU memory, GiB |\n|---|---|---|---|---|---|---|"
    )
    for width, rounds, low in itertools.product((64, arguments.width), (1, arguments.rounds), (False, True)):
        reasoner = shaken(n_r=arguments.n_r, n_t=rounds, hidden_width=width).cuda()
        reasoner.low_precision = low
        torch.cuda.reset_peak_memory_stats()
        spent = gpu_seconds(lambda r=reasoner: r.rerank(query, gallery, ranking))
        memory = torch.cuda.max_memory_allocated() / 2**30
        rate = 3600 * sum(operations(reasoner, arguments.n_r, arguments.dim).values()) / spent / 1e12
        name = "bfloat16" if low else "float32"
        print(
            f"| {width} | {rounds} | {name} | {spent:.3f} | {3600 / spent:.0f} | {rate:.1f} | {memory:.1f} |",
            flush=True,
        )
    few = type(ranking)(ranking.indices[:8], ranking.scores[:8])
    found = reasoner.rerank(query[:8], gallery, few)
    same = reasoner.cpu().rerank(query[:8].cpu(), gallery.cpu(), type(few)(few.indices.cpu(), few.scores.cpu()))
    print(f"Largest difference of scores from the CPU's: {(found.scores.cpu() - same.scores).abs().max().item():.1e}.")


def gpu_seconds(call: Callable[[], object]) -> float:
    """Median seconds of five calls after a first one."""
    spent = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-r", type=int, default=500)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, default=1024, help="the wide network; the default width runs, too")
    parser.add_argument("--peer-gradient", choices=("each", "once"), default="each")
    parser.add_argument("--gpu-only", action="store_true")
    arguments = parser.parse_args()
    if not arguments.gpu_only:
        on_cpu(arguments)
    if torch.cuda.is_available():
        on_gpu(arguments)


if __name__ == "__main__":
    main()
