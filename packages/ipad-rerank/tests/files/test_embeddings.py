"""Embedding files, good and bad."""

from __future__ import annotations

import pickle
import sys

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


def test_npy_is_memory_mapped_and_takes_labels_from_beside_it(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    data = read_embeddings(tmp_path / "a.npy")
    assert isinstance(data.embeddings, np.memmap)
    assert data.labels is None
    np.save(tmp_path / "a.labels.npy", np.array([3, 1, 1, 0]))
    assert read_embeddings(tmp_path / "a.npy").labels.tolist() == [3, 1, 1, 0]
    np.save(tmp_path / "a.embeddings.npy", VECTORS[:2])  # another file of vectors, whose name begins alike
    np.testing.assert_array_equal(read_embeddings(tmp_path / "a.npy").embeddings, VECTORS)
    np.save(tmp_path / "a.labels.npy", np.array([3, 1]))
    with pytest.raises(ValueError, match=r"a\.npy: labels must have shape \(4,\)"):
        read_embeddings(tmp_path / "a.npy")


def test_words_as_labels_ids_and_roles(tmp_path):
    words, roles = np.array(["red", "blue", "red", "g\u00fcn"]), np.array(["train", "gallery", "query", "train"])
    np.savez(tmp_path / "a.npz", embeddings=VECTORS, labels=words, ids=words, roles=roles)
    np.savez(tmp_path / "b.npz", embeddings=VECTORS, labels=words[::-1])
    first, second = read_embeddings(tmp_path / "a.npz"), read_embeddings(tmp_path / "b.npz")
    np.testing.assert_array_equal(first.labels, second.labels[::-1])  # the same number in every file
    assert len(set(first.labels.tolist())) == 3
    assert first.labels.dtype == np.int64
    assert first.ids.tolist() == words.tolist()
    assert first.roles.tolist() == [0, 2, 1, 0]
    objects = EmbeddingSet(VECTORS, ids=words.astype(object), roles=roles.astype(object))  # a column of pandas
    assert (objects.ids.tolist(), objects.roles.tolist()) == (words.tolist(), [0, 2, 1, 0])
    with pytest.raises(ValueError, match=r"roles must be train, query, gallery .* got nobody"):
        EmbeddingSet(VECTORS, roles=["nobody"] * 4)
    with pytest.raises(ValueError, match="ids must be whole numbers here"):
        write_embeddings(tmp_path / "c.safetensors", VECTORS, ids=words)


@pytest.mark.parametrize("kind", ["list_", "large_list", "fixed"])
def test_parquet_list_types(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    number = pyarrow.float32()
    column = pyarrow.list_(number, 3) if kind == "fixed" else getattr(pyarrow, kind)(number)
    label = pyarrow.array(["a", "b", "a", "a"]).dictionary_encode()
    table = pyarrow.table({"embedding": pyarrow.array(VECTORS.tolist(), column), "label": label})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    data = read_embeddings(tmp_path / "a.parquet")
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    assert (data.labels == data.labels[0]).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0], [1.0, 2.0]], "vectors of different lengths"),
        ([[1.0], None], "embedding has empty rows"),
        ([[1], [2]], "embeddings must be floats"),
        ([1.0, 2.0], r"shape \(N, D\)"),
    ],
)
def test_parquet_that_does_not_fit(tmp_path, column, message):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"embedding": column}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        read_embeddings(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'ipad-rerank\[parquet\]'"):
        read_embeddings(tmp_path / "a.parquet")


def test_rows_that_are_no_numbers_are_named_by_file_and_row(tmp_path):
    vectors = np.ones((9, 3), dtype=np.float32)
    vectors[5, 1], vectors[7, 0] = np.nan, np.inf
    np.savez(tmp_path / "bad.npz", embeddings=vectors, labels=np.arange(9))
    with pytest.raises(
        ValueError, match=r"bad\.npz: embeddings have NaN or infinite values in 2 rows \(first in row 5\)"
    ):
        read_embeddings(tmp_path / "bad.npz")


def test_only_what_is_asked_for_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", embeddings=VECTORS, other=np.array([Bomb()], dtype=object), kind=np.arange(4))
    assert read_embeddings(tmp_path / "a.npz").labels is None
    assert read_embeddings(tmp_path / "a.npz", label_column="kind").labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="has no sort; it holds embeddings, other, kind"):
        read_embeddings(tmp_path / "a.npz", label_column="sort")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"name": list("abcd"), "vec": VECTORS.tolist(), "label": [1, 2, 3, 4]})
    parquet.write_table(table, tmp_path / "a.parquet")
    data = read_embeddings(tmp_path / "a.parquet", column="vec")
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    assert data.labels.tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="has no embeddings; it holds name, vec, label"):
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
        ({"roles": [0, 1, 2, 3]}, r"roles must be train, query, gallery \(or 0, 1, 2\), got 3"),
    ],
)
def test_inconsistent_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingSet(**{"embeddings": VECTORS} | columns)
