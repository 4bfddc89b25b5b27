"""A folder of rendered photos, a small run's model, its catalogue, and the service as a real process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import signal
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if not all(map(importlib.util.find_spec, ("pymilvus", "milvus_lite", "fastapi", "uvicorn"))):
    collect_ignore_glob = ["test_*.py"]  # the extra ipad-train[catalogue] is not installed

COUNT = 40


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Rendered garments, and a table with brand, price and season."""
    from ipad_train.catalogue.demo import render_photos

    folder = tmp_path_factory.mktemp("photos") / "shop"
    render_photos(folder, COUNT, side=64)
    return folder


@pytest.fixture
def own_photos(photos, tmp_path) -> Path:
    """A copy of the photos to change."""
    return Path(shutil.copytree(photos, tmp_path / "own"))


@pytest.fixture(scope="session")
def run_dir(finished, tmp_path_factory) -> Path:
    """The finished run, delivering its IPAD network: after so few steps stage 0 may be the best, which has no attention."""
    run = Path(shutil.copytree(finished[0], tmp_path_factory.mktemp("delivers") / "run"))
    shutil.rmtree(run / "best")
    shutil.copytree(run / "stages" / "stage2", run / "best")
    return run


@pytest.fixture(scope="session")
def model(run_dir):
    from ipad_train.catalogue.model import CatalogueModel

    return CatalogueModel.open(str(run_dir))


@pytest.fixture(scope="session")
def indexed(photos, run_dir, tmp_path_factory) -> Path:
    """The folder of a finished catalogue; nothing changes it."""
    from ipad_train.catalogue.index_options import IndexOptions
    from ipad_train.catalogue.making import index_photos

    folder = tmp_path_factory.mktemp("indexed") / "catalogue"
    index_photos(photos, str(run_dir), str(folder), IndexOptions(progress=False), lambda line: None)
    return folder


@pytest.fixture
def own_catalogue(indexed, tmp_path) -> Path:
    """A copy of the catalogue to change, or to open beside the service."""
    return Path(shutil.copytree(indexed, tmp_path / "catalogue"))


@pytest.fixture
def opened(own_catalogue):
    """A searcher in a catalogue."""
    from ipad_train.catalogue.catalogue import Catalogue
    from ipad_train.catalogue.searching import Searcher

    with Catalogue(str(own_catalogue), "tests") as catalogue:
        yield Searcher(catalogue)


@dataclass
class Service:
    """A service that runs in a process of its own."""

    address: str
    running: Any  # of ../processes/commands.py
    photos: Path

    def get(self, path: str, **headers: str):
        return self.send("GET", path, None, **headers)

    def send(self, method: str, path: str, body: bytes | None, **headers: str):
        """Status, headers and content of an answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, data=body, method=method, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def ask(self, path: str, content: object | None = None):
        """The JSON of an answer that has to be 200."""
        if content is None:
            status, _, answer = self.get(path)
        else:
            status, _, answer = self.send("POST", path, json.dumps(content).encode(), Content_Type="application/json")
        assert status == 200, answer
        return json.loads(answer)


def start_service(commands, where: object, photos: Path, *options: object) -> Service:
    running = commands.start("serve", where, "--port", 0, *options)
    for _ in range(1200):
        if "photos at http" in running.text():
            address = running.text().split("photos at ")[1].split()[0]
            return Service(address.split("?")[0].rstrip("/"), running, photos)
        assert running.output.exists() is False or "Error" not in running.text(), running.text()
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {running.text()}")


@pytest.fixture(scope="session")
def serving(commands):
    """``serving(catalogue, photos, *options)``: a service in a process of its own, stopped at the end."""
    started = []

    def start(where: object, photos: Path, *options: object) -> Service:
        started.append(made := start_service(commands, where, photos, *options))
        return made

    yield start
    for made in started:
        with contextlib.suppress(ProcessLookupError):  # a test has ended it
            made.running.kill(signal.SIGTERM)


@pytest.fixture(scope="session")
def served_photos(photos, tmp_path_factory) -> Path:
    """A copy of the photos that the service shows, so that tests may change it; a secret lies beside it."""
    place = tmp_path_factory.mktemp("served")
    (place / "secret.txt").write_text("the secret", encoding="utf-8")
    return Path(shutil.copytree(photos, place / "shop"))


@pytest.fixture(scope="session")
def service(serving, indexed, served_photos, tmp_path_factory) -> Service:
    """A service of a copy of the catalogue."""
    where = shutil.copytree(indexed, tmp_path_factory.mktemp("service") / "catalogue")
    return serving(where, served_photos, "--photos", served_photos, "--max-upload-mb", 0.5, "--max-megapixels", 4)
