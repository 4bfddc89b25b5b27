"""The command itself: its help, its errors, its version."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest


def test_help_shows_a_worked_example(run):
    output = run("--help").output
    assert "ipad-rerank compare train.npz" in output
    assert "ipad-rerank fit train.npz --output reasoner" in output


@pytest.mark.parametrize("command", ["fit", "rerank", "evaluate", "compare"])
def test_every_command_explains_itself(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nothing.npz"], "nothing.npz: no such file"),
        (["evaluate", "plain.npz", "--column", "clip"], "has no clip; it holds embeddings, labels"),
        (["evaluate", "plain.npz", "--reasoner", "nowhere"], "nowhere holds no config.json"),
        (["evaluate", "plain.npz", "--gallery", "all.safetensors"], "query_groups is missing"),
        (["fit", "q.npy", "--output", "x"], "q.npy has no labels; put them into q.labels.npy"),
        (["fit", "g.npz", "--output", "x"], "g.npz has no labels"),
        (["fit", "plain.npz", "--output", "x", "--n-r", "1"], "n_r must be at least 2"),
        (["fit", "plain.npz", "--output", "x", "--sequences", "many"], 'sequences (or "auto") must be a whole number'),
        (
            ["rerank", "--query", "q.npy", "--gallery", "q.npy", "--reasoner", "x", "--output", "y"],
            "holds no config.json",
        ),
        (
            ["rerank", "--query", "q.npy", "--gallery", "g.npz", "--reasoner", "r", "--output", "o", "--k", "0"],
            "k must be",
        ),
        (
            ["rerank", "--query", "q.npy", "--gallery", "g.npz", "--reasoner", "r", "--output", "no/y"],
            "no: no such folder",
        ),
        (["compare", "plain.npz", "--gallery", "plain.npz"], "--gallery needs --train"),
        (["compare", "few.npz"], "5 rows are too few to split"),
    ],
)
def test_errors_are_one_line(run, files, reasoner, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    np.savez("few.npz", embeddings=np.eye(5, dtype=np.float32), labels=np.arange(5))
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_installed_command():
    command = [sys.executable, "-c", "from ipad_rerank.cli import main; main()", "--version"]
    assert "version" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
