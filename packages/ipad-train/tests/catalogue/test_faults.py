"""Real processes that are killed, run out of disk, meet each other, or lose their server."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.errors import EngineError
from ipad_train.catalogue.fields import FILE, HASH, VECTOR
from ipad_train.catalogue.lock import Lease
from ipad_train.catalogue.photo_files import content_hash
from ipad_train.catalogue.service import running as running_module
from ipad_train.catalogue.service.options import ServeOptions

pytestmark = [pytest.mark.multiprocess, pytest.mark.timeout(3000)]  # minutes on a machine that is busy otherwise


def check_whole(where, photos, model):
    """The catalogue holds exactly the photos of the folder, as they are, with the model's vectors."""
    files = {path.name: path for path in photos.glob("*.jpg")}
    with Catalogue(str(where), "tests") as catalogue:
        rows = {row[FILE]: row for row in catalogue.engine.iterate([FILE, HASH, VECTOR])}
    assert sorted(rows) == sorted(files)
    for name, path in files.items():
        assert rows[name][HASH] == content_hash(path.read_bytes())
    some = sorted(files)[::7]
    images = np.stack([model.decode(files[name]) for name in some])
    expected = model.embed(images).vectors.reshape(len(some), -1)
    np.testing.assert_allclose([rows[name][VECTOR] for name in some], expected, atol=1e-5)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments(commands, photos, own_photos, run_dir, model, tmp_path, kills):
    """Every kill loses at most what was on its way; the run that is left alone finishes, and all is there once."""
    where, rng = tmp_path / "catalogue", random.Random(3)
    arguments = ("index", own_photos, "--model", run_dir, "--catalogue", where, "--batch-size", 4)
    start = time.perf_counter()
    commands.run(*arguments)
    whole = time.perf_counter() - start
    shutil.rmtree(where)
    for number in range(kills):
        running = commands.start(*arguments, *(["--verify"] if number % 3 == 2 else []))
        time.sleep(rng.uniform(0, 1.1 * whole))
        running.kill()
        changed = rng.choice(sorted(own_photos.glob("*.jpg")))  # the next run has something to do
        changed.write_bytes(rng.choice(sorted(photos.glob("*.jpg"))).read_bytes() + bytes([number]))
    text = commands.run(*arguments)
    assert "photos, 6 attributes" in text
    assert "0 embedded" in commands.run(*arguments)
    check_whole(where, own_photos, model)


def test_full_disk(commands, photos, run_dir, model, tmp_path):
    """No file may grow beyond a limit, as on a full disk: one line says so, and with room again the next run goes on."""
    where = tmp_path / "catalogue"
    arguments = ("index", photos, "--model", run_dir, "--catalogue", where)
    text = commands.run(*arguments, code=1, file_limit=20_000)
    assert text.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in text
    commands.run(*arguments)
    check_whole(where, photos, model)


def test_second_indexer_is_refused(commands, photos, run_dir, own_catalogue):
    arguments = ("index", photos, "--model", run_dir, "--catalogue", own_catalogue)
    with Catalogue(str(own_catalogue), "indexes"):
        text = commands.run(*arguments, code=1)
        assert "takes one process at a time" in text
        assert "indexes" in text


def test_search_beside_the_service_says_where_to_ask(commands, photos, own_catalogue):
    with Catalogue(str(own_catalogue), "serves"):
        text = commands.run("search", "garment-00001.jpg", "--catalogue", own_catalogue, code=1)
    assert "/api/search" in text


def test_a_port_that_is_taken(own_catalogue):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"--port {port}"):
            running_module.serve_catalogue(str(own_catalogue), ServeOptions(port=port))


def test_control_c_ends_the_service_quietly(serving, photos, own_catalogue):
    made = serving(own_catalogue, photos)
    assert made.running.kill(signal.SIGINT) == 0, made.running.text()
    assert made.running.text().strip().endswith("(Ctrl-C ends it)")
    Catalogue(str(own_catalogue), "tests").close()  # it is free again


def test_an_address_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(EngineError, match="no answer within 10 s; check that the server runs"):
            Catalogue(address, "tests")
        assert time.monotonic() - start < 60


# -- a server ----------------------------------------------------------------------------------------------------------


class Server:
    """Milvus Lite behind a port, as a server of its own that can be stopped and started."""

    def __init__(self, folder):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        code = "import sys; from milvus_lite.cmdline import main; sys.exit(main(sys.argv[1:]))"
        options = ["server", "--data-dir", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "server")
    yield made
    made.stop()


def test_a_server_that_takes_one_indexer_and_goes_and_comes_back(commands, serving, server, photos, run_dir, model):
    text = commands.run("index", photos, "--model", run_dir, "--catalogue", server.address)
    assert "40 embedded" in text
    check_whole(server.address, photos, model)
    with Catalogue(server.address, "indexes") as catalogue:
        lease = Lease(catalogue.engine, catalogue.manifest.dim)
        text = commands.run("index", photos, "--model", run_dir, "--catalogue", server.address, code=1)
        assert "indexes into" in text
        lease.release()
    service = serving(server.address, photos)
    asked = {"photo": service.ask("/api/photos?limit=1")["photos"][0]["id"], "weights": {"collar_design": 1.0}}
    hits = service.ask("/api/search", asked)["hits"]
    # Two processes at once: a server takes them, and the command line searches while the page is served.
    found = commands.run(
        "search", hits[0]["file"], "--catalogue", server.address, "--limit", 3, "--attribute", "collar_design"
    )
    assert len(found.splitlines()) == 4
    server.stop()
    status, _, answer = service.send("POST", "/api/search", _json(asked), Content_Type="application/json")
    assert status == 503, answer
    assert b"does not answer" in answer
    assert service.get("/")[0] == 200
    server.start()
    for _ in range(60):
        status, _, answer = service.send("POST", "/api/search", _json(asked), Content_Type="application/json")
        if status == 200:
            break
        time.sleep(0.5)
    assert status == 200, answer
    assert service.ask("/api/search", asked)["hits"] == hits


def _json(content):
    return json.dumps(content).encode()
