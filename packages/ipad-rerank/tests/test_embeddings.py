"""Embedding files, good and bad."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ipad_rerank import EmbeddingSet, read_embeddings, write_embeddings

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_safetensors_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    write_embeddings(path, VECTORS, labels=[3, 1, 1, 0], roles=[0, 1, 2, 2], metadata={"model": "m", "size": [1, 2]})
    data = read_embeddings(path)
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    assert data.labels.tolist() == [3, 1, 1, 0]
    assert data.group_ids is None
    assert data.metadata == {"model": "m", "size": [1, 2]}
    assert data.role("gallery").labels.tolist() == [1, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["embeddings", "vectors"])
def test_npz_with_other_names(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{name: VECTORS, "label": np.arange(4, dtype=np.int32)})
    data = read_embeddings(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    assert data.labels.dtype == np.int64


def test_npy_is_memory_mapped(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    assert isinstance(read_embeddings(tmp_path / "a.npy").embeddings, np.memmap)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"name": list("abcd"), "vec": VECTORS.tolist(), "label": [1, 2, 3, 4]})
    parquet.write_table(table, tmp_path / "a.parquet")
    data = read_embeddings(tmp_path / "a.parquet", column="vec")
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    assert data.labels.tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="has no embeddings; it holds vec, label"):
        read_embeddings(tmp_path / "a.parquet")


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "parquet"])
@pytest.mark.parametrize("content", [pickle.dumps({"embeddings": [1.0]}), b"", b"hello"])
def test_pickles_and_other_files_in_disguise(tmp_path, ending, content):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.\w+ is not a readable"):
        read_embeddings(path)


class Bomb:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_object_arrays_are_not_unpickled(tmp_path):
    objects = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", embeddings=objects)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="pickled objects"):
            read_embeddings(tmp_path / name)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_embeddings(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"cannot read '\.pt' files"):
        read_embeddings(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"embeddings": VECTORS[0]}, r"shape \(N, D\)"),
        ({"embeddings": VECTORS.astype(int)}, "floats"),
        ({"labels": [1]}, r"labels must have shape \(4,\)"),
        ({"ids": [0.5] * 4}, "ids must be whole numbers"),
        ({"roles": [0, 1, 2, 3]}, "roles must be 0"),
    ],
)
def test_inconsistent_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingSet(**{"embeddings": VECTORS} | columns)
