"""Files to run the commands on, and a way to run them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from click.testing import CliRunner

from ipad_rerank import write_embeddings
from ipad_rerank.cli import main


@pytest.fixture(scope="session")
def run():
    """``run("fit", path, "--steps", 3)``: the command's exit code and output."""
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def reasoner(run, files):
    result = run(
        "fit", files / "all.safetensors", "--output", files / "r", "--n-r", 40, "--steps", 25, "--keep-without-gain"
    )
    assert result.exit_code == 0, result.output
    return files / "r"
