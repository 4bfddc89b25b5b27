"""The command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

from ipad_rerank import (
    AlphaQueryExpansion,
    AverageQueryExpansion,
    Chain,
    FeatureReasoning,
    mean_average_precision,
    rank,
    read_embeddings,
    write_embeddings,
)
from ipad_rerank.cli import main
from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.rerankers.saving import load
from ipad_rerank.selection import Comparison


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
    np.savez(folder / "words.npz", embeddings=vectors, labels=[f"class {label}" for label in labels + 4 * groups])
    np.savez(folder / "noise.npz", embeddings=vectors, labels=rng.integers(4, size=900))
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "vectors.labels.npy", labels + 4 * groups)
    np.save(folder / "q.npy", vectors[:7])
    np.savez(folder / "g.npz", embeddings=vectors[7:], ids=np.arange(893) + 1000)
    if find_spec("pyarrow"):
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        words = [f"class {label}" for label in labels + 4 * groups]
        parquet.write_table(pyarrow.table({"embedding": list(vectors), "label": words}), folder / "table.parquet")
        table = pyarrow.table({"name": words, "clip": list(vectors), "category": labels + 4 * groups})
        parquet.write_table(table, folder / "other.parquet")
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


@pytest.mark.parametrize("command", ["fit", "rerank", "evaluate", "compare"])
def test_every_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), ("3", 3)])
def test_fit_keeps_the_number_of_sequences(files, tmp_path, given, kept):
    options = ("--n-r", 40, "--steps", 2, "--keep-without-gain", "--sequences", given)
    result = run("fit", files / "plain.npz", "--output", tmp_path / "r", *options)
    assert result.exit_code == 0, result.output
    reasoner = FeatureReasoning.from_pretrained(tmp_path / "r")
    assert reasoner.sequences == kept
    assert reasoner.density.best_gallery_size in [row["size"] for row in reasoner.report["gallery_sizes"]]


def test_rerank_writes_indices_scores_and_ids(files, reasoner):
    result = run(
        "rerank",
        "--query",
        files / "q.npy",
        "--gallery",
        files / "g.npz",
        "--reasoner",
        reasoner,
        "--k",
        60,
        "--output",
        files / "best.npz",
        "--on-unfamiliar",
        "ignore",
    )
    assert result.exit_code == 0, result.output
    query, gallery = (read_embeddings(files / name).embeddings for name in ("q.npy", "g.npz"))
    expected = FeatureReasoning.from_pretrained(reasoner).rerank(
        query, gallery, rank(query, gallery, k=60), on_unfamiliar="ignore"
    )
    with np.load(files / "best.npz") as best:
        np.testing.assert_array_equal(best["indices"], expected.indices)
        np.testing.assert_array_equal(best["scores"], expected.scores)
        np.testing.assert_array_equal(best["ids"], best["indices"] + 1000)
    assert not list(files.glob("*.part"))


def test_rerank_searches_by_role_and_within_groups(files, reasoner):
    result = run(
        "rerank",
        "--query",
        files / "all.safetensors",
        "--gallery",
        files / "all.safetensors",
        "--reasoner",
        reasoner,
        "--k",
        200,
        "--output",
        files / "own.npz",
        "--on-unfamiliar",
        "ignore",
    )
    assert result.exit_code == 0, result.output
    data = read_embeddings(files / "all.safetensors")
    with np.load(files / "own.npz") as own:
        np.testing.assert_array_equal(own["queries"], np.arange(500, 580))
        for row, indices, scores in zip(own["queries"], own["indices"], own["scores"], strict=True):
            met = 580 + np.flatnonzero(data.group_ids[580:] == data.group_ids[row])
            found = indices[indices >= 0]
            assert np.isneginf(scores[len(found) :]).all()
            assert len(found) == min(200, len(met))
            assert set(found) <= set(met)


def test_rerank_falls_back_when_told_to(files, reasoner):
    result = run(
        "rerank",
        "--query",
        files / "q.npy",
        "--gallery",
        files / "q.npy",
        "--reasoner",
        reasoner,
        "--output",
        files / "few.npz",
        "--on-unfamiliar",
        "fallback",
    )
    assert result.exit_code == 0, result.output
    assert "Warning: " in result.output
    query = np.load(files / "q.npy")
    with np.load(files / "few.npz") as few:
        np.testing.assert_array_equal(few["indices"], rank(query, query).indices)


def test_evaluate_within_groups(files, reasoner):
    result = run("evaluate", files / "all.safetensors", "--reasoner", reasoner, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"none", "reasoner", "gain"}
    assert found["none"]["queries"] == 80
    data = read_embeddings(files / "all.safetensors")
    query, gallery = data.role("query"), data.role("gallery")
    expected = mean_average_precision(
        rank(query.embeddings, gallery.embeddings), query.labels, gallery.labels, query.group_ids, gallery.group_ids
    )
    assert found["none"]["map"] == pytest.approx(expected)
    assert "gain" in run("evaluate", files / "all.safetensors", "--reasoner", reasoner).stdout


def test_evaluate_the_first_k_of_each_group(files):
    result = run("evaluate", files / "all.safetensors", "--k", 20, "--json")
    assert result.exit_code == 0, result.output
    data = read_embeddings(files / "all.safetensors")
    query, gallery = data.role("query"), data.role("gallery")
    expected = mean_average_precision(
        rank(query.embeddings, gallery.embeddings),
        query.labels,
        gallery.labels,
        query.group_ids,
        gallery.group_ids,
        at=20,
    )
    assert json.loads(result.stdout)["none"]["map"] == pytest.approx(expected)


def test_evaluate_two_files_without_a_reasoner(files):
    result = run("evaluate", files / "plain.npz", "--gallery", files / "words.npz")
    assert result.exit_code == 1
    assert "labels are words in one of the files and numbers in the other" in result.output
    result = run("evaluate", files / "words.npz", "--gallery", files / "words.npz")
    assert "P@1 100.00" in result.stdout


def test_fit_behind_expansion_and_from_a_fitted_one(files, reasoner):
    options = ["--steps", 3, "--keep-without-gain"]
    result = run(
        "fit", files / "plain.npz", "--output", files / "chain", "--n-r", 30, "--expand", 7, "--alpha", 0.5, *options
    )
    assert result.exit_code == 0, result.output
    chain = Chain.from_pretrained(files / "chain")
    assert chain.rerankers[0] == AlphaQueryExpansion(k=7, alpha=0.5)
    assert chain.rerankers[1].n_r == 30
    assert run("evaluate", files / "plain.npz", "--reasoner", files / "chain").exit_code == 0
    result = run("fit", files / "plain.npz", "--output", files / "twice", "--n-r", 30, "--again", 9, *options)
    assert result.exit_code == 0, result.output
    first, expansion, last = Chain.from_pretrained(files / "twice").rerankers
    assert (first.n_r, expansion, last) == (30, AverageQueryExpansion(k=9), first)
    assert run("evaluate", files / "plain.npz", "--reasoner", files / "twice").exit_code == 0
    result = run("fit", files / "plain.npz", "--output", files / "more", "--init", reasoner, *options)
    assert result.exit_code == 0, result.output
    assert FeatureReasoning.from_pretrained(files / "more").n_r == 40
    result = run("fit", files / "plain.npz", "--output", files / "twice", "--n-r", 20, *options)
    assert result.exit_code == 0, result.output
    assert load(files / "twice").n_r == 20, "not the chain that was there"
    assert (
        "init keeps its own settings"
        in run("fit", files / "plain.npz", "--output", files / "more", "--init", reasoner, "--n-r", 10).output
    )


def test_fit_says_when_it_brings_nothing(files):
    result = run("fit", files / "noise.npz", "--output", files / "none", "--n-r", 20, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert "Held out: MAP" in result.stderr
    assert "Warning: held-out MAP did not rise" in result.stderr
    assert FeatureReasoning.from_pretrained(files / "none").is_identity


SMALL_GRIDS = {
    "average_query_expansion": {"k": (5,)},
    "alpha_query_expansion": {"k": (5, 10)},
    "database_augmentation": {"k": (5,)},
    "k_reciprocal": {"k1": (10,)},
    "diffusion": {"k": (10,)},
}


@pytest.mark.parametrize("name", ["all.safetensors", "plain.npz"])
def test_compare_prints_a_table_and_says_what_to_use(files, monkeypatch, name):
    for method, grid in SMALL_GRIDS.items():
        monkeypatch.setattr(RERANKERS[method], "grid", grid)
    best = files / f"best of {name}"
    result = run("compare", files / name, "--n-r", 40, "--steps", 5, "--output", best)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for column in ("MAP", "gain (95 %)", "P@1", "P@10", "nDCG@10", "queries/s"):
        assert column in lines[0]
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    reasoned = {"feature reasoning", "feature reasoning, then expansion"}
    reasoned |= {"feature reasoning, expansion, feature reasoning", "expansion, then feature reasoning"}
    names = [row.split(" (")[0] for row in rows]
    assert names[: len(RERANKERS) + 1] == ["none", *RERANKERS]
    found = set(names[len(RERANKERS) + 1 :])
    assert found == reasoned or (found < reasoned and "feature reasoning (n_r=40) (no gain: identity)" in rows)
    assert lines[-2].startswith("Oracle of the first 39: ")
    assert len({len(line) for line in lines if line.startswith("|")}) == 1, "columns that do not line up"
    steps = len(RERANKERS) + 3
    assert f"[1/{steps}] tuning average_query_expansion\n" in result.stderr
    assert re.search(rf"\[{steps}/{steps}\] guarding the best, .*, about \d+ (s|min) left", result.stderr)
    used = lines[-1].removeprefix("Use: ").split(" (")[0]
    assert used in [row.split(" (")[0] for row in rows[1:]]
    evaluated = run("evaluate", files / name, "--reasoner", best)
    assert evaluated.exit_code == 0, evaluated.output
    assert "gain +" in evaluated.output


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vectors.npy", []),
        ("words.npz", []),
        ("table.parquet", []),
        ("other.parquet", ["--column", "clip", "--label-column", "category"]),
    ],
)
def test_every_kind_of_file_gives_the_same_parts(files, monkeypatch, name, options):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    asked = []

    def record(*parts, **settings):
        asked.extend([*parts, settings])
        return Comparison((), "map", 0.0, 2, "nothing")

    monkeypatch.setattr(sys.modules["ipad_rerank.cli.compare"], "compare_sets", record)
    monkeypatch.setattr(Comparison, "__str__", lambda _: "done")
    for arguments in (["plain.npz"], [name, *options]):
        result = run("compare", files / arguments[0], *arguments[1:], "--seed", 3)
        assert result.exit_code == 0, result.output
    assert asked[3] == asked[7] == {"objective": "map", "n_r": 500, "steps": 1000, "seed": 3, "verbose": True}
    for expected, part in zip(asked[:3], asked[4:7], strict=True):
        np.testing.assert_array_equal(part.embeddings, expected.embeddings)
        same = expected.labels[:, None] == expected.labels
        np.testing.assert_array_equal(part.labels[:, None] == part.labels, same)


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
        (["fit", "plain.npz", "--output", "x", "--sequences", "many"], "whole number or \"auto\", got 'many'"),
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
def test_errors_are_one_line(files, reasoner, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    np.savez("few.npz", embeddings=np.eye(5, dtype=np.float32), labels=np.arange(5))
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_device_that_is_not_there(files):
    result = run("fit", files / "plain.npz", "--output", files / "x", "--device", "cud")
    assert result.exit_code == 2
    assert "'cud' is not at hand" in result.output


def test_installed_command():
    command = [sys.executable, "-c", "from ipad_rerank.cli import main; main()", "--version"]
    assert "version" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
