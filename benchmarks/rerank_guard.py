"""Does a guard keep small classes whole, and what does it cost? On long tails of data that no rule was chosen on.

Each set is thinned out to a long tail: digits (scikit-learn's, see rerank_quality.py), Gaussian classes, or texts with
labels that you name. A part of the rows fits Feature Reasoning, a part is the gallery of the guard's calibration, a part
the gallery of the report; the rest are queries, half to calibrate and half to report on. Those of small classes are drawn
more often, and weighted down again. Printed are gains in MAP, over all queries and by the number of relevant items. Beside
the guard's stand those of two gates that nobody can build. One knows how many items are relevant to a query, and opens where
queries of that size gain on average, behind as many kept results as are best. The other knows the gain of the query itself.

    python benchmarks/rerank_guard.py digits mixture
    python benchmarks/rerank_guard.py banking77/train.csv clinc150.json npm.tsv --seeds 2

A .tsv with columns name and summary is a list of packages: the text is the summary, the label the first word of the name.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from rerank_quality import embed, embedded, read_texts, train_network, warp
from torch import Tensor

from ipad_rerank import AverageQueryExpansion, Chain, EmbeddingSet, FeatureReasoning, Guard
from ipad_rerank.rerankers.base import answer_of
from ipad_rerank.rerankers.guard.calibration import FIRST
from ipad_rerank.rerankers.guard.gate import bin_names, bin_of
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.shortlist import keep_in_front

GALLERY, QUERIES, CALIBRATION = 4000, 2000, 1000


def digits(seed: int) -> EmbeddingSet:
    """20,000 warped blends of scans, embedded by a CNN that saw other scans."""
    from sklearn.datasets import load_digits

    data = load_digits()
    scans, labels = torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)
    generator = torch.Generator().manual_seed(100 + seed)
    order = torch.randperm(len(scans), generator=generator)

    def make(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        first = rows[torch.randint(len(rows), (count,), generator=generator)]
        alike = (labels[first][:, None] == labels[rows][None]).float()
        second = rows[torch.multinomial(alike, 1, generator=generator)[:, 0]]
        share = 0.3 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
        return share * warp(scans[first], generator) + (1 - share) * warp(scans[second], generator), labels[first]

    network = train_network(*make(order[:500], 2000), seed, epochs=10)
    images, found = make(order[500:], 20_000)
    return EmbeddingSet(embed(network, images), labels=found.numpy())


def mixture(seed: int) -> EmbeddingSet:
    """36,000 vectors of 120 Gaussian classes of different widths."""
    rng = np.random.default_rng(500 + seed)
    labels, width = rng.integers(120, size=36_000), rng.uniform(0.9, 1.6, 120)
    centers = rng.normal(size=(120, 32))
    noise = width[labels][:, None] * rng.normal(size=(36_000, 32))
    return EmbeddingSet((centers[labels] + noise).astype(np.float32), labels=labels)


def packages(file: Path, seed: int) -> EmbeddingSet:
    """Up to 24,000 summaries of 400 first words, which are long-tailed by themselves."""
    pairs = []
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            summary = next((value for key, value in row.items() if key and key.startswith("summary")), None) or ""
            word = row[next(iter(row))].lstrip("@").replace("/", "-").replace("_", "-").split("-")[0].lower()
            if len(summary) > 20 and len(word) > 2 and not word.isdigit():
                pairs.append((summary, word))
    rng = np.random.default_rng(seed)
    counts = Counter(word for _, word in pairs)
    kept = set(rng.permutation(sorted(word for word, count in counts.items() if count >= 40))[:400].tolist())
    pairs = [pair for pair in pairs if pair[1] in kept]
    return embedded([pairs[row] for row in rng.permutation(len(pairs))[:24_000]])


def parts_of(data: EmbeddingSet, seed: int, thinned: bool) -> list[EmbeddingSet]:
    """To fit, the calibration's gallery and queries, the report's gallery and queries."""
    rng = np.random.default_rng(1000 + seed)
    ids, sizes = np.unique(data.labels, return_counts=True)
    if thinned:  # the largest class is 150 times the smallest
        shares = dict(zip(rng.permutation(ids).tolist(), 150.0 ** -np.linspace(0, 1, len(ids)), strict=True))
    else:
        shares = dict(zip(ids.tolist(), sizes / sizes.max(), strict=True))
    most = min(
        np.median(sizes) / 3 if thinned else sizes.max() / 4, GALLERY * max(shares.values()) / sum(shares.values())
    )
    parts: list[list[np.ndarray]] = [[], [], [], [], []]
    for label, share in shares.items():
        rows = rng.permutation(np.flatnonzero(data.labels == label))
        gallery = max(2, round(most * share))
        ends = np.cumsum([min(gallery, len(rows) // 4)] * 3)
        fit, pool, shown, rest = np.split(rows, ends)
        half = len(rest) // 2
        for part, found in zip(parts, (fit, pool, rest[:half], shown, rest[half:]), strict=True):
            part.append(found)
    return [data.select(rng.permutation(np.concatenate(part))) for part in parts]


def drawn(queries: EmbeddingSet, gallery: EmbeddingSet, count: int, seed: int) -> tuple[EmbeddingSet, np.ndarray]:
    """``count`` queries, a class in proportion to the square root of its share of the gallery, and their weights."""
    share = dict(zip(*np.unique(gallery.labels, return_counts=True), strict=True))
    there = Counter(queries.labels.tolist())
    wanted = np.array([share.get(label, 0) ** 0.5 / there[label] for label in queries.labels.tolist()])
    count = min(count, int((wanted > 0).sum()))
    rows = np.random.default_rng(seed).choice(len(queries), count, replace=False, p=wanted / wanted.sum())
    chosen = queries.select(rows)
    asked = Counter(chosen.labels.tolist())
    weights = np.array([share[label] / asked[label] for label in chosen.labels.tolist()])
    return chosen, weights / weights.mean()


def cells(gains: Tensor, weights: Tensor, bins: Tensor) -> list[float]:
    """Percent: over all, then by bin."""
    masks = [torch.ones_like(bins, dtype=torch.bool), *(bins == number for number in range(len(bin_names())))]
    return [100 * float((gains * weights)[mask].sum() / weights[mask].sum()) for mask in masks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="digits, mixture, or files of texts")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--n-r", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    names = " | ".join(bin_names())
    print(
        f"| data, re-ranker | gate | all | {names} | share of the gain | first kept |\n|{'---|' * (5 + len(bin_names()))}"
    )
    for name in arguments.sets:
        for seed in arguments.seeds:
            start = time.process_time()
            is_list = name.endswith(".tsv")
            if name in ("digits", "mixture"):
                data = {"digits": digits, "mixture": mixture}[name](seed)
            else:
                data = packages(Path(name), seed) if is_list else embedded(read_texts(Path(name)))
            fit, pool, pool_queries, gallery, queries = parts_of(data, seed, not is_list)
            calibrating, counts = drawn(pool_queries, pool, CALIBRATION, seed)
            asked, weights = drawn(queries, gallery, QUERIES, seed)
            weights = torch.from_numpy(weights)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"n_r": arguments.n_r, "steps": arguments.steps, "seed": seed, "verbose": False}
                reasoner = FeatureReasoning.fit(fit.embeddings, fit.labels, keep_without_gain=True, **options)
            sizes = ", ".join(f"{len(part):,}" for part in (fit, pool, calibrating, gallery, asked))
            print(f"| {Path(name).stem} {seed}: {sizes} | | |{' |' * (2 + len(bin_names()))}", flush=True)
            (search,) = labelled_searches(
                asked.embeddings, gallery.embeddings, asked.labels, gallery.labels, on_unfamiliar="ignore"
            )
            before, bins = search.measure(("map",))["map"], bin_of(search.relevant)
            expansion = AverageQueryExpansion(k=20)
            for method in (reasoner, Chain(reasoner, expansion, reasoner), expansion):
                answer = answer_of(method, search.asked)
                gains = torch.stack(
                    [search.measure(("map",), keep_in_front(search.asked, answer, n))["map"] - before for n in FIRST]
                )
                known = (calibrating.embeddings, pool.embeddings, calibrating.labels, pool.labels)
                guard = Guard.calibrate(method, *known, weights=counts)
                guarded = search.measure(("map",), answer_of(guard, search.asked))["map"] - before
                of_size = torch.zeros_like(before)
                for number in bins.unique():
                    mask = bins == number
                    means = (gains[:, mask] * weights[mask]).sum(1)
                    if float(means.max()) > 0:
                        of_size[mask] = gains[int(means.argmax()), mask]
                rows = {"none": gains[0], "guard": guarded, "size known": of_size, "gain known": gains[0].clamp_min(0)}
                plain = cells(gains[0], weights, bins)[0]
                for gate, values in rows.items():
                    found = cells(values, weights, bins)
                    text = " | ".join("" if np.isnan(value) else f"{value:+.1f}" for value in found)
                    kept = f"{found[0] / plain:.0%}" if plain > 0 else ""
                    label = {"FeatureReasoning": "FR", "Chain": "FR, QE, FR"}.get(
                        type(method).__name__, "average QE 20"
                    )
                    print(
                        f"| {label} | {gate} | {text} | {kept} | {guard.first if gate == 'guard' else ''} |",
                        flush=True,
                    )
            print(f"| {time.process_time() - start:.0f} CPU s | | |{' |' * (2 + len(bin_names()))}", flush=True)


if __name__ == "__main__":
    main()
