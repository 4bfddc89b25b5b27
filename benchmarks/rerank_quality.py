"""What re-ranking brings on real embeddings, over several seeds, as Markdown tables.

Without arguments: the handwritten digits that ship with scikit-learn, made many and hard (each image blends two scans of
a digit, warped and noisy), embedded by a small CNN trained with the triplet loss. The scans are divided: some train the
CNN, others tune and fit the re-rankers, others are searched. ``--case instances`` asks for the images of the same scan
instead, about eight per query: there is little for Feature Reasoning to read. ``--images`` takes a folder in the format of
MNIST (train-images-idx3-ubyte and train-labels-idx1-ubyte, as they are or with .gz: Fashion-MNIST, KMNIST, ...): 2,000
images train the CNN, 8,000 tune and fit, 5,000 are searched. With files (.safetensors, .npz, .parquet with embeddings and
labels) their rows are used instead. ``--texts`` takes files of texts with labels, such as those of Banking77 (CSV with
columns text and category) and CLINC150 (JSON with lists of [text, intent]), and embeds them with the ``wordllama``
package, which you install yourself.

    python benchmarks/rerank_quality.py
    python benchmarks/rerank_quality.py --images ~/data/FashionMNIST/raw
    python benchmarks/rerank_quality.py --case instances --seeds 1
    python benchmarks/rerank_quality.py my_embeddings.safetensors
    python benchmarks/rerank_quality.py --texts banking77/train.csv banking77/test.csv
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipad_rerank import EmbeddingSet, compare, read_embeddings
from ipad_rerank.selection import split_roles

PEERS = ("alpha_query_expansion", "k_reciprocal", "diffusion")
SIZE = 20


def warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, shifted, scaled, sheared, occluded by a square and noisy: ``(N, 8, 8)`` -> ``(N, 1, 20, 20)``."""
    count = len(images)

    def spread(width: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * width

    angle, scale, shear = spread(0.4), 1.1 * torch.exp(spread(0.2)), spread(0.2)
    cos, sin = torch.cos(angle), torch.sin(angle)
    first = torch.stack([cos * scale, (shear * cos - sin) * scale, spread(0.14)], 1)
    second = torch.stack([sin * scale, (shear * sin + cos) * scale, spread(0.14)], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), (count, 1, SIZE, SIZE), align_corners=False)
    out = F.grid_sample(images[:, None], grid, align_corners=False) * torch.exp(spread(0.4))[:, None, None, None]
    corner = torch.randint(0, SIZE - 6, (count, 2, 1), generator=generator)
    inside = (torch.arange(SIZE) >= corner) & (torch.arange(SIZE) < corner + 6)  # (N, 2, 20)
    hidden = inside[:, 0, :, None] & inside[:, 1, None, :]
    return out.masked_fill(hidden[:, None], 0.0) + 0.25 * torch.randn(out.shape, generator=generator)


def triplet_loss(embedding: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Mean over the active ones of all triplets of a batch."""
    embedding = F.normalize(embedding, dim=1)
    similarity = embedding @ embedding.T
    same = labels[:, None] == labels[None]
    other = ~torch.eye(len(labels), dtype=torch.bool)
    valid = (same & other)[:, :, None] & ~same[:, None]
    losses = F.relu(margin - similarity[:, :, None] + similarity[:, None])[valid]
    return losses.sum() / (losses > 0).sum().clamp_min(1)


def digits(seed: int, instances: bool) -> tuple[EmbeddingSet, EmbeddingSet, EmbeddingSet]:
    """(train, query, gallery) of 8,000, 1,000 and 4,000 embeddings."""
    from sklearn.datasets import load_digits

    data = load_digits()
    scans, labels = torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(scans), generator=generator)

    def make(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        first = rows[torch.randint(len(rows), (count,), generator=generator)]
        if instances:
            return warp(scans[first], generator), first
        alike = (labels[first][:, None] == labels[rows][None]).float()
        second = rows[torch.multinomial(alike, 1, generator=generator)[:, 0]]
        share = 0.3 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)
        mixed = share * warp(scans[first], generator) + (1 - share) * warp(scans[second], generator)
        return mixed, first

    images, rows = make(order[:500], 2000)
    network = train_network(images, labels[rows], seed, epochs=10)
    sets = []
    for rows, count in ((order[500:1150], 8000), (order[1150:], 5000)):
        images, made = make(rows, count)
        sets.append(EmbeddingSet(embed(network, images), labels=(made if instances else labels[made]).numpy()))
    train, test = sets
    return train, test.select(slice(0, 1000)), test.select(slice(1000, None))


def idx_images(folder: Path, seed: int) -> tuple[EmbeddingSet, EmbeddingSet, EmbeddingSet]:
    """The same from 15,000 random images of a folder like MNIST's."""

    def read(name: str) -> bytes:
        path = folder / name
        return path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{name}.gz").read_bytes())

    labels = np.frombuffer(read("train-labels-idx1-ubyte"), np.uint8, offset=8).astype(np.int64)
    pixels = np.frombuffer(read("train-images-idx3-ubyte"), np.uint8, offset=16).reshape(len(labels), 1, 28, 28)
    kept = np.random.default_rng(seed).permutation(len(labels))[:15_000]
    images, labels = torch.tensor(pixels[kept]).float() / 255, labels[kept]
    network = train_network(images[:2000], torch.tensor(labels[:2000]), seed, epochs=4)
    data = EmbeddingSet(embed(network, images), labels=labels)
    return data.select(slice(2000, 10_000)), data.select(slice(10_000, 11_000)), data.select(slice(11_000, None))


def embedded(pairs: list[tuple[str, str]]) -> EmbeddingSet:
    """(text, label) pairs, embedded with wordllama."""
    import wordllama

    texts, labels = zip(*pairs, strict=True)
    own = Path(wordllama.__file__).parent  # the package brings its tokenizer along, and looks for it elsewhere
    vectors = wordllama.WordLlama.load(cache_dir=own, disable_download=True).embed(list(texts), norm=True)
    return EmbeddingSet(np.asarray(vectors, np.float32), labels=np.array(labels))


def read_texts(file: Path) -> list[tuple[str, str]]:
    """(text, label) of a CSV file with a column of texts and one of labels, or of JSON lists of [text, label]."""
    if file.suffix == ".json":
        parts = json.loads(file.read_text(encoding="utf-8"))
        parts = parts.values() if isinstance(parts, dict) else [parts]
        return [(text, label) for part in parts for text, label in part if label != "oos"]
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = list(rows[0])
    label = next((name for name in names if name in ("category", "intent", "label", "class")), None)
    text = next((name for name in names if name in ("text", "sentence", "query", "utterance")), None)
    if label is None or text is None:
        raise SystemExit(
            f"{file}: needs a column text and a column category, intent or label; it has {', '.join(names)}"
        )
    return [(row[text], row[label]) for row in rows]


def train_network(images: Tensor, labels: Tensor, seed: int, epochs: int) -> nn.Module:
    """A small CNN, trained with the triplet loss."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            triplet_loss(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def embed(network: nn.Module, images: Tensor) -> np.ndarray:
    return torch.cat([network(part) for part in images.split(500)]).numpy()


def _kind(name: str) -> str:
    """A row's name without its settings, which may differ between seeds."""
    return name.split(" (")[0] + (", several sequences" if "sequences=" in name else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--case", choices=("classes", "instances"), default="classes")
    parser.add_argument("--images", type=Path, help="a folder in the format of MNIST")
    parser.add_argument("--texts", type=Path, nargs="*", help="files of texts with labels")
    parser.add_argument("--objective", default="map")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n-r", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--queries", type=int, default=1_000_000, help="ask the first so many at most")
    arguments = parser.parse_args()
    texts = None
    for source in arguments.files or [None]:
        gains: dict[tuple[str, str], list[float]] = {}
        for seed in range(arguments.seeds):
            start = time.process_time()
            if arguments.texts:
                texts = texts or embedded([pair for file in arguments.texts for pair in read_texts(file)])
                parts = split_roles(texts, seed)
            elif arguments.images:
                parts = idx_images(arguments.images, seed)
            elif source is None:
                parts = digits(seed, arguments.case == "instances")
            else:
                parts = split_roles(read_embeddings(source), seed)
            options = {"n_r": arguments.n_r, "steps": arguments.steps, "seed": seed, "objective": arguments.objective}
            train, query, gallery = parts
            parts = (train, query.select(slice(0, arguments.queries)), gallery)
            table = compare(*parts, peers=tuple(arguments.peers), **options)
            sizes = ", ".join(f"{len(part):,}" for part in parts)
            cpu = time.process_time() - start
            source_name = arguments.texts or arguments.images or source or arguments.case
            print(f"\n### {source_name}, seed {seed} (train, query, gallery: {sizes}; {cpu:.0f} CPU s)\n")
            print(table, flush=True)
            for row in table.rows:
                for measure, gain in row.measures.items():
                    value = gain.value if row.name == "none" else gain.gain
                    gains.setdefault((_kind(row.name), measure), []).append(value)
                for part in row.bins:
                    gains.setdefault((_kind(row.name), f"{arguments.objective}, {part.relevant} relevant"), []).append(
                        part.gain
                    )
        print("\n| mean over seeds | measure | value or gain | per seed |\n|---|---|---|---|")
        for (name, measure), values in gains.items():
            print(f"| {name} | {measure} | {np.mean(values):+.2f} | {' '.join(f'{value:+.2f}' for value in values)} |")


if __name__ == "__main__":
    main()
