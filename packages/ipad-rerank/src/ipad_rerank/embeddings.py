"""Files of embeddings: the safetensors format that the ipad packages share, and .npy, .npz and .parquet of others.

The format: a safetensors file with ``embeddings (N, D)`` and optionally ``labels``, ``group_ids``, ``ids`` and
``roles``, each ``(N,)`` int64; its metadata are JSON strings. Roles: 0 train, 1 query, 2 gallery. Nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

ROLES = ("train", "query", "gallery")
COLUMNS = ("labels", "group_ids", "ids", "roles")
_ALIASES = {
    "embeddings": ("embeddings", "embedding", "vectors", "vector", "features"),
    "labels": ("labels", "label"),
    "group_ids": ("group_ids", "group_id"),
    "ids": ("ids", "id"),
    "roles": ("roles", "role"),
}


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Vectors with what is known of each.

    Args:
        embeddings: ``(N, D)`` floats, as read (maybe a memory map).
        labels, group_ids, ids, roles: ``(N,)`` int64 or None.
        metadata: Any JSON values by name.

    Raises:
        ValueError: shapes do not fit, or values are not whole numbers.
    """

    embeddings: Any
    labels: Any = None
    group_ids: Any = None
    ids: Any = None
    roles: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        embeddings = np.asanyarray(self.embeddings)
        if embeddings.ndim != 2 or 0 in embeddings.shape or embeddings.dtype.kind != "f":
            raise ValueError(
                f"embeddings must be floats of shape (N, D), got {embeddings.dtype} of shape {embeddings.shape}"
            )
        object.__setattr__(self, "embeddings", embeddings)
        for name in COLUMNS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _whole(value, name, len(embeddings)))
        if self.roles is not None and not np.isin(self.roles, range(len(ROLES))).all():
            raise ValueError(f"roles must be 0 (train), 1 (query) or 2 (gallery), got {np.unique(self.roles)}")

    def __len__(self) -> int:
        return len(self.embeddings)

    def select(self, rows: Any) -> EmbeddingSet:
        """The rows that an index or a mask picks."""
        columns = {name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in COLUMNS}
        return EmbeddingSet(self.embeddings[rows], metadata=self.metadata, **columns)

    def role(self, name: str) -> EmbeddingSet:
        """The rows of a role, by its name."""
        if self.roles is None:
            raise ValueError("these embeddings have no roles")
        rows = np.flatnonzero(self.roles == ROLES.index(name))
        if not len(rows):
            raise ValueError(f"no row has the role {name!r}")
        return self.select(rows)


def write_embeddings(
    path: str | Path, embeddings: Any, *, metadata: dict[str, Any] | None = None, **columns: Any
) -> None:
    """Write a safetensors file; ``columns`` are labels, group_ids, ids and roles, each ``(N,)`` or None."""
    data = EmbeddingSet(embeddings, metadata=metadata or {}, **columns)
    tensors = {"embeddings": data.embeddings} | {name: getattr(data, name) for name in COLUMNS}
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}
    path = Path(path)
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, {name: json.dumps(value) for name, value in data.metadata.items()})
    part.replace(path)


def read_embeddings(path: str | Path, column: str | None = None) -> EmbeddingSet:
    """Read a ``.safetensors``, ``.npz``, ``.npy`` (vectors only, memory-mapped) or ``.parquet`` file.

    Args:
        path: The file.
        column: Name of the vectors in it; by default embeddings, embedding, vectors, vector or features.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, a damaged file, a pickle in disguise, no vectors in it.
        ImportError: parquet without pyarrow.
    """
    path = Path(path)
    readers = {".safetensors": _safetensors, ".npz": _npz, ".npy": _npy, ".parquet": _parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path}: cannot read {path.suffix!r} files; {', '.join(readers)} are known")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        tensors, metadata = readers[path.suffix](path)
    except (SafetensorError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable {path.suffix} file (or holds pickled objects): {error}") from error
    found: dict[str, Any] = {}
    for name, aliases in _ALIASES.items():
        names = (column,) if name == "embeddings" and column else aliases
        found[name] = next((tensors[alias] for alias in names if alias in tensors), None)
    if found["embeddings"] is None:
        raise ValueError(f"{path} has no {column or 'embeddings'}; it holds {', '.join(tensors) or 'nothing'}")
    try:
        return EmbeddingSet(**found, metadata=metadata)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        # torch reads bfloat16, which numpy lacks
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    arrays = {k: (v.float() if v.is_floating_point() and v.element_size() == 2 else v) for k, v in tensors.items()}
    return {name: tensor.numpy() for name, tensor in arrays.items()}, {k: _json(v) for k, v in metadata.items()}


def _npz(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        if not hasattr(file, "files"):
            raise ValueError("it is no archive of arrays")
        return {name: file[name] for name in file.files}, {}


def _npy(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"embeddings": np.load(path, mmap_mode="r", allow_pickle=False)}, {}


def _parquet(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("parquet files need pyarrow: pip install ipad-rerank[parquet]") from error
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    arrays = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pyarrow.types.is_fixed_size_list(column.type) or pyarrow.types.is_list(column.type):
            if column.null_count or not len(column):
                raise ValueError(f"column {name} has empty rows")
            lengths = np.diff(column.offsets.to_numpy()) if pyarrow.types.is_list(column.type) else None
            if lengths is not None and (lengths != lengths[0]).any():
                raise ValueError(f"column {name} has vectors of different lengths")
            arrays[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        elif pyarrow.types.is_integer(column.type):
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return arrays, {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _whole(value: Any, name: str, length: int) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), one for each embedding, got {array.shape}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, got {array.dtype}")
    return array.astype(np.int64)
