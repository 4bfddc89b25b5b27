"""A catalogue of photos: what indexing costs over the bare model, indexing again, and what searches cost, alone and at once.

    python benchmarks/catalogue.py --model RUN [--part index|reindex|search] [--photos 10000] [--work DIR] [--seconds 20]

RUN is a trained run, such as `quickstart/ipad_tiny` or `runs/tiny`; a folder of a saved model will do. Garments are rendered
into DIR/photos-N once and kept. The parts:

* `index`: photos/s of `ipad-train index` beside those of the bare model over the same files (decoded in as many threads,
  nothing stored), memory and disk.
* `reindex`: seconds of indexing again after 1 % of the photos changed, and after none did.
* `search`: queries/s and p50, p95, p99 of the service's /api/search on the loopback interface for 1, 4 and 16 clients, with
  and without filter and re-ranking.

Every figure is written to DIR/results.json as soon as it is there. A part that was interrupted goes on with the figures
that are missing; `--again` measures anew. All figures are then printed as Markdown. Take a quiet machine: they are
wall-clock time. What the engine alone does, up to a million vectors, is measured by `catalogue_engine.py`; whether it ranks
as evaluation does by `catalogue_map.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from catalogue_service import Service, search_cases

from ipad_train.catalogue.demo import render_photos
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.photo_files import find_photos, read_photo
from ipad_train.catalogue.reading import DECODERS

BATCH, BARE_PHOTOS = 32, 3000
PARTS = ("index", "reindex", "search")


class Results:
    """Figures by name, kept in a file; ``results(name, measure)`` measures what is not there."""

    def __init__(self, path: Path, again: bool) -> None:
        self.path, self.again = path, again
        self.found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def __call__(self, name: str, measure) -> dict:
        if self.again or name not in self.found:
            self.found[name] = measure()
            self.path.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
            print(f"{name}: {self.found[name]}", file=sys.stderr, flush=True)
        return self.found[name]


def bare_rate(model: CatalogueModel, folder: Path, most: int = BARE_PHOTOS) -> float:
    """Photos/s of decoding in threads and embedding for all attributes, with nothing stored."""
    photos = find_photos(folder)[0][:most]
    blank = np.zeros((BATCH, model.detail_size, model.detail_size, 3), dtype=np.uint8)
    model.embed(blank)  # the first batch is slower
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


def index(folder: Path, source: str, where: Path) -> dict:
    """Of `ipad-train index`: its last line, the seconds it reports, the whole process' seconds and its peak of memory."""
    command = [sys.executable, "-m", "ipad_train", "index", str(folder), "--model", source, "--catalogue", str(where)]
    start = time.perf_counter()
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
    whole = time.perf_counter() - start
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"index failed: {text}")
    line = text.strip().splitlines()[-1]
    return {"line": line, "seconds": float(re.search(r"in ([\d.]+) s", line)[1]), "whole": whole, "gb": peak / 1e9}


def change(folder: Path, share: float) -> int:
    """Append bytes to a share of the photos: another content, the same picture."""
    chosen = sorted(folder.glob("*.jpg"))[:: round(1 / share)]
    for path in chosen:
        path.write_bytes(path.read_bytes() + os.urandom(4))
    return len(chosen)


def measure_index(results: Results, source: str, folder: Path, where: Path) -> None:
    model = CatalogueModel.open(source)
    results("bare", lambda: {"rate": bare_rate(model, folder)})

    def first() -> dict:
        shutil.rmtree(where, ignore_errors=True)
        measured = index(folder, source, where)
        disk = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
        return {**measured, "bytes": disk, "photos": len(find_photos(folder)[0]), "attributes": len(model.attributes)}

    results("index", first)


def measure_reindex(results: Results, source: str, folder: Path, where: Path) -> None:
    results("changed", lambda: {"photos": change(folder, 0.01), **index(folder, source, where)})
    results("idle", lambda: index(folder, source, where))


def measure_search(results: Results, source: str, folder: Path, where: Path, seconds: float) -> None:
    cases = search_cases(CatalogueModel.open(source))
    wanted = [(name, clients) for name in cases for clients in (1, 4, 16)]
    if not results.again and all(f"search: {name}, {clients}" in results.found for name, clients in wanted):
        return
    ids = [photo.id for photo in find_photos(folder)[0]]
    with Service(where) as service:
        for name, clients in wanted:
            results(f"search: {name}, {clients}", lambda n=name, c=clients: service.load(c, seconds, cases[n], ids))
        results("service", lambda: {"gb": service.process.memory_info().rss / 1e9})


def show(found: dict) -> None:
    """Everything that was measured, as Markdown."""
    if "index" in found:
        first, bare = found["index"], found["bare"]["rate"]
        rate = first["photos"] / first["seconds"]
        print(f"- bare model, {first['attributes']} attributes: {bare:.1f} photos/s")
        print(
            f"- index: {rate:.1f} photos/s, {100 * rate / bare:.0f} % of the bare model; {first['gb']:.2f} GB at most"
        )
        print(f"- {first['line']}; {first['whole']:.1f} s with the start of the process")
        print(
            f"- the catalogue takes {first['bytes'] / 1e6:.1f} MB, {first['bytes'] / first['photos']:.0f} bytes a photo"
        )
        for name in ("changed", "idle"):
            if name in found:
                each = found[name]
                shares = [100 * each[key] / first[key] for key in ("seconds", "whole")]
                print(
                    f"- {name}: {each['seconds']:.1f} s, {shares[0]:.1f} % of the first time; {each['line']}; "
                    f"{each['whole']:.1f} s with the start of the process, {shares[1]:.1f} %"
                )
    if "service" in found:
        print(f"- the service holds {found['service']['gb']:.2f} GB")
    rows = [(name, row) for name, row in found.items() if name.startswith("search: ")]
    if rows:
        print(
            "\n| search | clients | queries/s | p50, ms | p95, ms | p99, ms | CPU, ms |\n|---|---|---|---|---|---|---|"
        )
    for name, row in rows:
        case, clients = name.removeprefix("search: ").rsplit(", ", 1)
        took = " | ".join(f"{row[name]:.0f}" for name in ("p50", "p95", "p99", "cpu"))
        print(f"| {case} | {clients} | {row['rate']:.1f} | {took} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--part", choices=PARTS, help="default: all of them")
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("catalogue-benchmark"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of every row of the searches")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    arguments = parser.parse_args()
    folder, where = arguments.work / f"photos-{arguments.photos}", arguments.work / "catalogue"
    render_photos(folder, arguments.photos)
    results = Results(arguments.work / "results.json", arguments.again)
    parts = PARTS if arguments.part is None else (arguments.part,)
    if "index" in parts:
        measure_index(results, arguments.model, folder, where)
    if "reindex" in parts:
        measure_reindex(results, arguments.model, folder, where)
    if "search" in parts:
        measure_search(results, arguments.model, folder, where, arguments.seconds)
    show(results.found)


if __name__ == "__main__":
    main()
