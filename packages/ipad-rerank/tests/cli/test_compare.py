"""``ipad-rerank compare``."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from ipad_rerank.rerankers.registry import RERANKERS
from ipad_rerank.selection import Comparison

SMALL_GRIDS = {
    "average_query_expansion": {"k": (5,)},
    "alpha_query_expansion": {"k": (5, 10)},
    "database_augmentation": {"k": (5,)},
    "k_reciprocal": {"k1": (10,)},
    "diffusion": {"k": (10,)},
}


@pytest.mark.parametrize("name", ["all.safetensors", "plain.npz"])
def test_compare_prints_a_table_and_says_what_to_use(run, files, monkeypatch, name):
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
def test_every_kind_of_file_gives_the_same_parts(run, files, monkeypatch, name, options):
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
