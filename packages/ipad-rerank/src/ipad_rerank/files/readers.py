"""Readers of the four kinds of files, each giving only the arrays that are asked for. Nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ipad_rerank.files.extras import require

if TYPE_CHECKING:
    import pyarrow


VECTORS = "embeddings"
COLUMNS = ("labels", "group_ids", "ids", "roles")
"""What a file may know of each vector."""
WORDS = "ipad_rerank_words"
"""Name in a file's metadata under which it says which of its columns were words."""


class Content(NamedTuple):
    """Arrays by name, the file's metadata, and the names of everything in the file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]
    names: list[str]


def read_arrays(path: Path, wanted: Collection[str]) -> Content:
    """The arrays of ``path`` whose names are ``wanted``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, a damaged file, a pickle in disguise.
        ImportError: parquet without pyarrow.
    """
    if path.suffix not in READERS:
        raise ValueError(f"{path}: cannot read {path.suffix!r} files; {', '.join(READERS)} are known")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return READERS[path.suffix](path, wanted)
    except (SafetensorError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable {path.suffix} file (or holds pickled objects): {error}") from error


def _safetensors(path: Path, wanted: Collection[str]) -> Content:
    with safe_open(path, framework="pt") as file:  # torch reads bfloat16, which numpy lacks
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names if name in wanted}
        metadata = file.metadata() or {}
    arrays = {k: v.float() if v.is_floating_point() and v.element_size() == 2 else v for k, v in tensors.items()}
    return Content({k: v.numpy() for k, v in arrays.items()}, {k: _json(v) for k, v in metadata.items()}, names)


def _npz(path: Path, wanted: Collection[str]) -> Content:
    with np.load(path, allow_pickle=False) as file:
        if not hasattr(file, "files"):
            raise ValueError("it is no archive of arrays")
        return Content({name: file[name] for name in file.files if name in wanted}, {}, list(file.files))


def beside(path: Path, name: str) -> Path:
    """``v.npy`` for the vectors; the file beside it that holds a column of it, ``v.labels.npy``, or ``v.metadata.json``."""
    endings = {VECTORS: ".npy", "metadata": ".metadata.json"}
    return path.with_suffix(endings.get(name, f".{name}.npy"))


def _npy(path: Path, wanted: Collection[str]) -> Content:
    """The vectors, memory-mapped, and what lies beside them."""
    arrays = {VECTORS: np.load(path, mmap_mode="r", allow_pickle=False)}
    for name in wanted:
        if name != VECTORS and beside(path, name).is_file():
            arrays[name] = np.load(beside(path, name), allow_pickle=False)
    facts = beside(path, "metadata")
    metadata = _json(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    if not isinstance(metadata, dict):
        raise ValueError(f"{facts.name} beside it must hold a JSON object")
    return Content(arrays, metadata, list(arrays))


def _parquet(path: Path, wanted: Collection[str]) -> Content:
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    try:
        names = parquet.read_schema(path).names
        table = parquet.read_table(path, columns=[name for name in names if name in wanted])
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    return Content({name: _column(pyarrow, table[name], name) for name in table.column_names}, {}, names)


def _column(pyarrow: ModuleType, chunked: pyarrow.ChunkedArray, name: str) -> np.ndarray:
    types, column = pyarrow.types, chunked.combine_chunks()
    is_list = types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type)
    if not len(column) or (column.null_count and is_list):
        raise ValueError(f"column {name} has empty rows")
    if column.null_count:  # unlabelled rows
        return np.array(column.to_pylist(), dtype=object)
    if is_list:
        if len(column.value_lengths().unique()) > 1:
            raise ValueError(f"column {name} has vectors of different lengths")
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(column.to_pylist())
    return column.to_numpy(zero_copy_only=False)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


READERS: dict[str, Callable[[Path, Collection[str]], Content]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".npy": _npy,
    ".parquet": _parquet,
}
