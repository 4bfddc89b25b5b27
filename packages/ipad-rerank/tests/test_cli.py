"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from ipad_rerank import write_embeddings
from ipad_rerank.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(4, size=900), rng.integers(2, size=900)
    vectors = rng.normal(size=(2, 4, 12))[groups, labels] + 1.2 * rng.normal(size=(900, 12))
    vectors = vectors.astype(np.float32)
    roles = np.repeat([0, 1, 2], [500, 80, 320])
    write_embeddings(folder / "all.safetensors", vectors, labels=labels, group_ids=groups, roles=roles)
    np.savez(folder / "plain.npz", embeddings=vectors, labels=labels + 4 * groups)
    np.save(folder / "q.npy", vectors[:7])
    np.savez(folder / "g.npz", embeddings=vectors[7:], ids=np.arange(893) + 1000)
    return folder


@pytest.fixture(scope="module")
def reasoner(files):
    result = run(
        "fit", files / "all.safetensors", "--output", files / "r", "--n-r", 40, "--steps", 25, "--keep-without-gain"
    )
    assert result.exit_code == 0, result.output
    return files / "r"


def test_help_shows_a_worked_example():
    output = run("--help").output
    assert "ipad-rerank compare train.npz" in output
    assert "ipad-rerank fit train.npz --output reasoner" in output


def test_rerank_writes_indices_scores_and_ids(files, reasoner):
    result = run(
        "rerank", "--query", files / "q.npy", "--gallery", files / "g.npz", "--reasoner", reasoner, "--k", 60,
        "--output", files / "best.npz", "--on-unfamiliar", "ignore",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with np.load(files / "best.npz") as best:
        assert best["indices"].shape == (7, 60)
        np.testing.assert_array_equal(best["ids"], best["indices"] + 1000)


@pytest.mark.filterwarnings("ignore::ipad_rerank.UnfamiliarDensityWarning")
def test_evaluate_within_groups(files, reasoner):
    result = run("evaluate", files / "all.safetensors", "--reasoner", reasoner, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert set(found) == {"none", "reasoner"}
    assert found["none"]["queries"] == 80
    assert "gain" in run("evaluate", files / "all.safetensors", "--reasoner", reasoner).output


@pytest.mark.filterwarnings("ignore::ipad_rerank.UnfamiliarDensityWarning")
def test_compare_prints_a_table_and_says_what_to_use(files, monkeypatch):
    monkeypatch.setattr(sys.modules["ipad_rerank.tune"], "DEFAULT_GRIDS", {
        "average_query_expansion": {"k": (5,)}, "alpha_query_expansion": {"k": (5, 10)},
        "database_augmentation": {"k": (5,)}, "k_reciprocal": {"k1": (10,)}, "diffusion": {"k": (10,)},
    })  # fmt: skip
    result = run("compare", files / "plain.npz", "--n-r", 40, "--steps", 25)
    assert result.exit_code == 0, result.output
    for words in ("| none", "k_reciprocal", "feature reasoning", "expansion, then", "Oracle of the first 39", "Use: "):
        assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nothing.npz"], "nothing.npz: no such file"),
        (["fit", "q.npy", "--output", "x"], "has no labels"),
        (["rerank", "--query", "q.npy", "--gallery", "q.npy", "--reasoner", "x", "--output", "y"], "holds no config.json"),
        (["compare", "plain.npz", "--train", "plain.npz"], "--gallery and --train go together"),
    ],
)  # fmt: skip
def test_errors_are_one_line(files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_installed_command():
    command = [sys.executable, "-c", "from ipad_rerank.cli import main; main()", "--version"]
    assert "version" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
