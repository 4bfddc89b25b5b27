"""A catalogue of rendered garments: what indexing costs over the bare model, and what search costs, alone and at once.

    python benchmarks/catalogue.py --model RUN [--photos 10000] [--work DIR] [--seconds 20] [--vectors 1000000]

RUN is a trained run, such as `quickstart/ipad_tiny` or `runs/tiny`; a folder of a saved model will do. The photos are
rendered into DIR/photos-N once and kept. Printed, as Markdown: photos/s of indexing beside those of the bare model over the
same files (decoded in as many threads, nothing stored); seconds of indexing again after 1 % of the photos changed, and
after none did; queries/s and p50, p95, p99 of the service's /api/search on the loopback interface for 1, 4 and 16 clients,
with and without filter and re-ranking; memory and disk. `--vectors N` adds how the embedded engine grows up to N synthetic
photos (one attribute of 128 numbers). Take a quiet machine: every figure is wall-clock time. 10,000 photos take about
fifteen minutes on two cores, a million vectors perhaps an hour.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from ipad_train.catalogue.demo import render_photos
from ipad_train.catalogue.engine import Engine
from ipad_train.catalogue.fields import EXTRA, FILE, HASH, ID, MTIME, SIZE, TABLE, VECTOR, pack
from ipad_train.catalogue.indexing import DECODERS
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.photo_files import find_photos, photo_id, read_photo

BATCH = 32


def bare_rate(model: CatalogueModel, folder: Path) -> float:
    """Photos/s of decoding in threads and embedding for all attributes, with nothing stored."""
    photos, _ = find_photos(folder)
    model.embed(
        np.zeros((BATCH, model.detail_size, model.detail_size, 3), dtype=np.uint8)
    )  # the first batch is slower
    start = time.perf_counter()
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting, coming, batch = deque(), iter(photos), []
        while True:
            while len(waiting) < 2 * BATCH and (photo := next(coming, None)) is not None:
                waiting.append(pool.submit(lambda name: model.decode(read_photo(folder, name)), photo.name))
            if not waiting:
                break
            batch.append(waiting.popleft().result())
            if len(batch) == BATCH or not waiting:
                model.embed(np.stack(batch))
                batch = []
    return len(photos) / (time.perf_counter() - start)


def index(folder: Path, source: str, where: Path) -> tuple[str, float, float]:
    """The last line of `ipad-train index`, the seconds that it reports, and the process's peak memory in GB."""
    command = [sys.executable, "-m", "ipad_train", "index", str(folder), "--model", source, "--catalogue", str(where)]
    process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    text = process.communicate()[0]
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"index failed: {text}")
    line = text.strip().splitlines()[-1]
    return line, float(re.search(r"in ([\d.]+) s", line)[1]), peak / 1e9


def change(folder: Path, share: float) -> int:
    """Append bytes to a share of the photos: another content, the same picture."""
    chosen = sorted(folder.glob("*.jpg"))[:: round(1 / share)]
    for path in chosen:
        path.write_bytes(path.read_bytes() + os.urandom(4))
    return len(chosen)


class Service:
    """`ipad-train serve` on the loopback interface."""

    def __init__(self, where: Path) -> None:
        command = [sys.executable, "-m", "ipad_train", "serve", str(where), "--port", "0"]
        self.process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127.0.0.1:(\d+)/", line)[1])

    def ask(self, connection: http.client.HTTPConnection, body: bytes) -> dict:
        connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the service answered {answer.status}: {content[:300]!r}")
        return json.loads(content)

    def load(self, clients: int, seconds: float, asked: dict, ids: list[str]) -> np.ndarray:
        """Seconds of every search that ``clients`` sent one after the other for ``seconds``."""
        end, took = time.perf_counter() + seconds, []

        def client(seed: int) -> None:
            rng, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            while time.perf_counter() < end:
                body = json.dumps({**asked, "photo": rng.choice(ids)}).encode()
                start = time.perf_counter()
                self.ask(connection, body)
                took.append(time.perf_counter() - start)
            connection.close()

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return np.array(took)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def search_table(service: Service, model: CatalogueModel, ids: list[str], seconds: float) -> None:
    first, second = model.attributes[0], model.attributes[-1]
    values = model.values[first]
    plain = {"weights": {first: 1.0}, "limit": 24}
    cases = {
        "one attribute": plain,
        "all attributes": {"weights": dict.fromkeys(model.attributes, 1.0), "limit": 24},
        "two, filtered": {
            "weights": {first: 1.0, second: 0.5},
            "limit": 24,
            "where": "price < 50 and brand == 'Alder'",
        },
        "one, re-ranked (k-reciprocal, best 200)": {**plain, "rerank": "k_reciprocal"},
    }
    if values:
        cases["one, facet and filter, re-ranked"] = {
            **plain, "facets": {first: values[:2]}, "where": "price < 80", "rerank": "k_reciprocal",
        }  # fmt: skip
    print("\n| search | clients | queries/s | p50, ms | p95, ms | p99, ms |\n|---|---|---|---|---|---|")
    for name, asked in cases.items():
        for clients in (1, 4, 16):
            took = service.load(clients, seconds, asked, ids)
            low, high, highest = 1000 * np.percentile(took, [50, 95, 99])
            print(
                f"| {name} | {clients} | {len(took) / seconds:.1f} | {low:.0f} | {high:.0f} | {highest:.0f} |",
                flush=True,
            )


def growth(work: Path, largest: int, dim: int = 128) -> None:
    """The embedded engine alone, with one attribute: rows/s written, one search's time, memory and disk."""
    rng, path = np.random.default_rng(0), work / "growth.db"
    shutil.rmtree(path, ignore_errors=True)
    engine = Engine(path)
    engine.create(1, dim)
    engine.load()
    print("\n| synthetic photos | rows/s written | search p50, ms | filtered p50, ms | process, GB | disk, GB |")
    print("|---|---|---|---|---|---|")
    done, sizes = 0, [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if size < largest] + [largest]
    for size in sizes:
        start, before = time.perf_counter(), done
        while done < size:
            count = min(2000, size - done)
            vectors = rng.standard_normal((count, dim), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            engine.write([_row(done + i, vectors[i]) for i in range(count)])
            done += count
            if done % 20_000 == 0:
                engine.flush()
        engine.flush()
        rate = (done - before) / (time.perf_counter() - start)
        query = rng.standard_normal(dim).astype(np.float32)
        plain, filtered = (_median(engine, query, text) for text in ("", "(n0 < 50.0)"))
        disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e9
        memory = psutil.Process().memory_info().rss / 1e9
        print(f"| {size:,} | {rate:.0f} | {plain:.0f} | {filtered:.0f} | {memory:.2f} | {disk:.2f} |", flush=True)
    engine.close()
    shutil.rmtree(path, ignore_errors=True)


def _row(number: int, vector: np.ndarray) -> dict:
    name = f"{number}.jpg"
    facts = {ID: photo_id(name), FILE: name, HASH: "", SIZE: 0, MTIME: 0, TABLE: "", VECTOR: vector, EXTRA: {}}
    return facts | pack({"v0": number % 5, "n0": float(number % 100)}, 1)


def _median(engine: Engine, query: np.ndarray, expression: str, repeats: int = 9) -> float:
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        engine.search(query, 24, expression, [FILE])
        took.append(time.perf_counter() - start)
    return 1000 * float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("catalogue-benchmark"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of every row of the searches")
    parser.add_argument("--vectors", type=int, default=0)
    arguments = parser.parse_args()
    folder, where = arguments.work / f"photos-{arguments.photos}", arguments.work / "catalogue"
    render_photos(folder, arguments.photos)
    shutil.rmtree(where, ignore_errors=True)
    model = CatalogueModel.open(arguments.model)
    print(
        f"{arguments.photos:,} photos of 192 px, {len(model.attributes)} attributes, decoded to {model.detail_size} px\n"
    )
    bare = bare_rate(model, folder)
    line, seconds, peak = index(folder, arguments.model, where)
    print(f"- bare model: {bare:.1f} photos/s")
    rate = arguments.photos / seconds
    print(f"- index: {rate:.1f} photos/s, {100 * rate / bare:.0f} % of the bare model; {line}")
    changed = change(folder, 0.01)
    line, again, _ = index(folder, arguments.model, where)
    print(f"- after {changed} photos changed: {again:.1f} s, {100 * again / seconds:.1f} % of the first time; {line}")
    line, idle, _ = index(folder, arguments.model, where)
    print(f"- after nothing changed: {idle:.1f} s, {100 * idle / seconds:.1f} %; {line}")
    disk = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    print(f"- indexing held {peak:.2f} GB at most")
    print(f"- the catalogue takes {disk / 1e6:.1f} MB, {disk / arguments.photos:.0f} bytes a photo")
    service = Service(where)
    ids = [photo.id for photo in find_photos(folder)[0]]
    try:
        search_table(service, model, ids, arguments.seconds)
        print(f"\nthe service holds {service.process.memory_info().rss / 1e9:.2f} GB")
    finally:
        service.stop()
    if arguments.vectors:
        growth(arguments.work, arguments.vectors)


if __name__ == "__main__":
    main()
