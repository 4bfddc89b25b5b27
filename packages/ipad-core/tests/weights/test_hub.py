"""The hub here is a server of this machine that answers as the real one does."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from ipad_core.weights.hub import HubError, hub_file

CONTENT = save({"weight": torch.ones(3)})
COMMIT = "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """Has the repository ``timm/there`` with ``pytorch_model.bin`` alone, and ``timm/safe`` with the other file."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.answer():
            self.wfile.write(CONTENT)

    def answer(self):
        self.server.seen.append(self.path)
        known = {"/timm/there/resolve/main/pytorch_model.bin", "/timm/safe/resolve/main/model.safetensors"}
        found = self.path in known
        self.send_response(self.server.status if self.path == "/" else 200 if found else 404)
        if found:
            self.send_header("ETag", '"abc"')
        else:
            missing = "EntryNotFound" if self.path.startswith(("/timm/there/", "/timm/safe/")) else "RepoNotFound"
            self.send_header("X-Error-Code", missing)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(CONTENT)) if found else "0")
        self.end_headers()
        return found

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The running server; ``hub.seen`` are the paths it was asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.seen, server.status = [], 200
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("repository", "name"), [("timm/safe", "model.safetensors"), ("timm/there", "pytorch_model.bin")]
)
def test_downloads_once_and_then_asks_nobody(hub, repository, name, monkeypatch):
    path = hub_file(repository)
    assert path.name == name
    assert path.read_bytes() == CONTENT
    hub.seen.clear()
    assert hub_file(repository) == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_file(repository) == path
    assert not hub.seen


def test_a_repository_that_the_hub_does_not_have(hub):
    with pytest.raises(HubError, match=r"404|not found|Not Found"):
        hub_file("timm/nothing")


def test_a_hub_that_answers_with_an_error_counts_as_out_of_reach_and_is_asked_once(hub):
    hub.status = 503
    for _ in range(2):
        with pytest.raises(HubError, match=r"http://127\.0\.0\.1:\d+ answered 503"):
            hub_file("timm/safe")
    assert hub.seen == ["/"]


def test_without_a_network_it_takes_no_time(monkeypatch):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        started = time.monotonic()
        with pytest.raises(HubError, match=r"http://127\.0\.0\.1:\d+: .*refused"):
            hub_file("timm/safe")
    assert time.monotonic() - started < 5


def test_a_network_that_swallows_everything_is_given_up(monkeypatch):
    with socket.socket() as silent:  # takes connections, never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("ipad_core.weights.hub._PATIENCE", 0.3)
        with pytest.raises(HubError, match=r"did not answer within 0\.3 s|timed out"):
            hub_file("timm/safe")


def test_the_switch_of_huggingface_hub_is_heard_at_once():
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        hub_file("timm/safe")
