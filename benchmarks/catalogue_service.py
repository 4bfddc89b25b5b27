"""The service of a catalogue under load; used by `catalogue.py`."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from ipad_train.catalogue.model import CatalogueModel


def search_cases(model: CatalogueModel) -> dict[str, dict]:
    """What is asked of /api/search, by a name for the table."""
    first, second = model.attributes[0], model.attributes[-1]
    plain = {"weights": {first: 1.0}, "limit": 24}
    cases = {
        "one attribute": plain,
        "all attributes": {**plain, "weights": dict.fromkeys(model.attributes, 1.0)},
        "two, filtered": {**plain, "weights": {first: 1.0, second: 0.5}, "where": "price < 50 and brand == 'Alder'"},
        "one, re-ranked (k-reciprocal, best 200)": {**plain, "rerank": "k_reciprocal"},
    }
    if values := model.values[first]:
        cases["one, facet and filter, re-ranked"] = {
            **plain,
            "facets": {first: values[:2]},
            "where": "price < 80",
            "rerank": "k_reciprocal",
        }
    return cases


class Service:
    """`ipad-train serve` on the loopback interface, until the end of ``with``."""

    def __init__(self, where: Path) -> None:
        command = [sys.executable, "-m", "ipad_train", "serve", str(where), "--port", "0"]
        self.process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127.0.0.1:(\d+)/", line)[1])

    def ask(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        """One search."""
        connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the service answered {answer.status}: {content[:300]!r}")

    def load(self, clients: int, seconds: float, asked: dict, ids: list[str]) -> dict[str, float]:
        """Of ``clients`` that each ask one after the other for ``seconds``: searches/s, how long they took, and what the
        service spent on one in CPU time (all in ms)."""
        took: list[float] = []
        self._ask_for(1, 1.0, asked, ids, [])  # the first one is slower
        start, spent = time.perf_counter(), sum(self.process.cpu_times()[:2])
        self._ask_for(clients, seconds, asked, ids, took)
        passed, spent = time.perf_counter() - start, sum(self.process.cpu_times()[:2]) - spent
        low, high, highest = (1000 * np.percentile(took, [50, 95, 99])).tolist()
        return {"rate": len(took) / passed, "p50": low, "p95": high, "p99": highest, "cpu": 1000 * spent / len(took)}

    def _ask_for(self, clients: int, seconds: float, asked: dict, ids: list[str], took: list[float]) -> None:
        end = time.perf_counter() + seconds

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

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
