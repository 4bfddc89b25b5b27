"""The engine of a catalogue by itself: is its answer the exact one, and what of it grows with the photos?

    python benchmarks/catalogue_engine.py recall --catalogue DIR [--indexes FLAT IVF_FLAT HNSW] [--queries 100]
    python benchmarks/catalogue_engine.py growth [--vectors 1000000] [--work DIR] [--budget SECONDS]

`recall` copies the vectors of a catalogue (`catalogue.py` leaves one in its folder) into an engine for each index type, and
counts how many of the ten nearest by `ipad_rerank.rank` each answers: for every attribute alone, and for all at once.

`growth` writes synthetic photos of one attribute of 128 numbers into the embedded engine, and measures at 10,000, 30,000,
... what a search takes, and memory and disk. It goes on with what an earlier call left in DIR/growth.db; `--budget` stops
writing after that many seconds. Take a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import psutil

from ipad_rerank import rank
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.engine import Engine
from ipad_train.catalogue.engine_indexes import INDEXES
from ipad_train.catalogue.fields import EXTRA, FILE, HASH, ID, MTIME, SIZE, TABLE, VECTOR, pack
from ipad_train.catalogue.photo_files import photo_id

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
DIM, SEED = 128, 0
WRITE, FLUSH = 10_000, 100_000  # photos
EFFORTS = {
    "FLAT": [{}],
    "HNSW": [{"ef": ef} for ef in (64, 512, 2048, 8192)],
    "IVF_FLAT": [{"nprobe": lists} for lists in (64, 256, 512, 768)],
}


def row(number: int, vector: np.ndarray, attributes: int = 1) -> dict:
    """A synthetic photo with one value and one number."""
    name = f"{number}.jpg"
    facts = {ID: photo_id(name), FILE: name, HASH: "", SIZE: 0, MTIME: 0, TABLE: "", VECTOR: vector, EXTRA: {}}
    return facts | pack({"v0": number % 5, "n0": float(number % 100)}, attributes)


def milliseconds(
    engine: Engine, query: np.ndarray, expression: str = "", effort: dict[str, int] | None = None, repeats: int = 9
) -> float:
    """Median of a search for 24."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        engine.search(query, 24, expression, [FILE], effort)
        took.append(time.perf_counter() - start)
    return 1000 * float(np.median(took))


def recall(where: Path, indexes: list[str], queries: int, photos: int) -> None:
    with Catalogue(str(where), "measures") as catalogue:
        names = catalogue.manifest.attributes
        stored = [each[VECTOR] for each in itertools.islice(catalogue.engine.iterate([VECTOR]), photos)]
    vectors = np.array(stored, dtype=np.float32).reshape(len(stored), len(names), -1)
    asked = np.random.default_rng(SEED).permutation(len(vectors))[:queries]
    flat, places = vectors.reshape(len(vectors), -1), {photo_id(f"{i}.jpg"): i for i in range(len(vectors))}
    weights = [*np.eye(len(names), dtype=np.float32), np.ones(len(names), dtype=np.float32)]
    print(f"{len(vectors):,} photos, {len(names)} attributes of {vectors.shape[2]} numbers, {queries} queries\n")
    print(f"| recall at 10 | {' | '.join(names)} | all at once | built, s | one search, ms |")
    print("|" + "---|" * (len(names) + 4))
    for index in indexes:
        path = where.with_name("recall.db")
        shutil.rmtree(path, ignore_errors=True)
        engine, start = Engine(path), time.perf_counter()
        engine.create(len(names), vectors.shape[2], index)
        engine.load()
        for first in range(0, len(vectors), 2000):
            engine.write([row(i, flat[i], len(names)) for i in range(first, min(first + 2000, len(vectors)))])
        engine.flush()
        engine.close()  # waits for the index, which is built in the background; till then searches read everything
        engine = Engine(path)
        engine.load()
        built = time.perf_counter() - start
        for effort in EFFORTS[index]:
            cells = [one_recall(engine, vectors, each, asked, places, effort) for each in weights]
            took = milliseconds(engine, flat[0], effort=effort)
            name = " ".join([index, *(f"{key}={value}" for key, value in effort.items())])
            print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {built:.1f} | {took:.1f} |", flush=True)
        engine.close()
        shutil.rmtree(path)


def one_recall(
    engine: Engine,
    vectors: np.ndarray,
    weights: np.ndarray,
    asked: np.ndarray,
    places: dict[str, int],
    effort: dict[str, int],
) -> float:
    """Share of the ten nearest by exact search that the engine finds, mean over queries."""
    block = (vectors * weights[:, None]).reshape(len(vectors), -1)
    exact = rank(block[asked], block, k=10).indices
    found = [{places[hit[ID]] for _, hit in engine.search(block[i], 10, effort=effort)} for i in asked]
    return float(np.mean([len(set(best) & each) / 10 for best, each in zip(exact.tolist(), found, strict=True)]))


def growth(work: Path, largest: int, budget: float) -> None:
    work.mkdir(parents=True, exist_ok=True)
    path, figures, end = work / "growth.db", work / "growth.json", time.perf_counter() + budget
    found = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() and path.exists() else {}
    anew = not found
    if anew:
        shutil.rmtree(path, ignore_errors=True)
    engine = Engine(path)
    if anew:
        engine.create(1, DIM)
    engine.load()
    done = engine.count()
    for size in [each for each in SIZES if each < largest] + [largest]:
        if str(size) in found:
            continue
        start, before = time.perf_counter(), done
        while done < size and time.perf_counter() < end:
            count = min(WRITE, size - done)
            vectors = np.random.default_rng([SEED, done]).standard_normal((count, DIM), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            engine.write([row(done + i, vectors[i]) for i in range(count)])
            done += count
            if done % FLUSH < WRITE:
                engine.flush()
        engine.flush()
        rate = (done - before) / (time.perf_counter() - start)
        found["rates"] = [*found.get("rates", []), [before, done, rate]]
        if done == size:
            query = np.random.default_rng(SEED).standard_normal(DIM).astype(np.float32)
            disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            found[str(size)] = {
                "plain": milliseconds(engine, query),
                "filtered": milliseconds(engine, query, "(n0 < 50.0)"),
                "gb": psutil.Process().memory_info().rss / 1e9,
                "disk": disk / 1e9,
            }
        figures.write_text(json.dumps(found, indent=1), encoding="utf-8")
        if time.perf_counter() >= end:
            break
    engine.close()
    print("| synthetic photos | search p50, ms | filtered p50, ms | process, GB | disk, GB |\n|---|---|---|---|---|")
    for size, each in found.items():
        if size != "rates":
            numbers = f"{each['plain']:.0f} | {each['filtered']:.0f} | {each['gb']:.2f} | {each['disk']:.2f}"
            print(f"| {int(size):,} | {numbers} |")
    for first, last, rate in found["rates"]:
        if last > first:
            print(f"- photos {first:,} to {last:,} were written at {rate:.0f} a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("recall")
    asked.add_argument("--catalogue", type=Path, default=Path("catalogue-benchmark/catalogue"))
    asked.add_argument("--indexes", nargs="+", choices=INDEXES, default=list(INDEXES))
    asked.add_argument("--queries", type=int, default=100)
    asked.add_argument("--photos", type=int, default=1_000_000, help="at most")
    grown = commands.add_parser("growth")
    grown.add_argument("--vectors", type=int, default=1_000_000)
    grown.add_argument("--work", type=Path, default=Path("catalogue-benchmark"))
    grown.add_argument("--budget", type=float, default=float("inf"), help="seconds")
    arguments = parser.parse_args()
    if arguments.command == "recall":
        recall(arguments.catalogue, arguments.indexes, arguments.queries, arguments.photos)
    else:
        growth(arguments.work, arguments.vectors, arguments.budget)


if __name__ == "__main__":
    main()
