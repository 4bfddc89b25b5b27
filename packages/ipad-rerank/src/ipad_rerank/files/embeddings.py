"""Files of embeddings: the safetensors format that the ipad packages share, and .npy, .npz and .parquet of others.

The format: a safetensors file with ``embeddings (N, D)`` and optionally ``labels``, ``group_ids``, ``ids`` and
``roles``, each ``(N,)`` int64; its metadata are JSON strings. Roles: 0 train, 1 query, 2 gallery. Nothing is unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ipad_rerank.files.readers import COLUMNS, WORDS, read_arrays
from ipad_rerank.files.shards import read_shards
from ipad_rerank.search.labels import label_kind, label_numbers
from ipad_rerank.search.vectors import ArrayLike

ROLES = ("train", "query", "gallery")

_ALIASES = {
    "embeddings": ("embeddings", "embedding", "vectors", "vector", "features"),
    **{name: (name, name.removesuffix("s")) for name in COLUMNS},
}


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Vectors with what is known of each.

    Args:
        embeddings: ``(N, D)`` floats, as read (maybe a memory map).
        labels, group_ids: ``(N,)`` whole numbers, truth values, or words, which become numbers (the same ones in every
            file). A label may be None: unlabelled.
        ids: ``(N,)`` whole numbers or words.
        roles: ``(N,)`` 0, 1, 2 or "train", "query", "gallery".
        metadata: Any JSON values by name.
        words: Which of labels and group_ids came as words.

    Raises:
        ValueError: shapes do not fit, or values are not whole numbers.
    """

    embeddings: np.ndarray
    labels: np.ndarray | None = None
    group_ids: np.ndarray | None = None
    ids: np.ndarray | None = None
    roles: np.ndarray | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    words: frozenset[str] = frozenset()

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
                if name in ("labels", "group_ids") and label_kind(value, name) == "words":
                    object.__setattr__(self, "words", self.words | {name})
                object.__setattr__(self, name, _whole(value, name, len(embeddings)))

    def __len__(self) -> int:
        return len(self.embeddings)

    def select(self, rows: np.ndarray | slice) -> EmbeddingSet:
        """The rows that an index or a mask picks."""
        columns = {name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in COLUMNS}
        return EmbeddingSet(self.embeddings[rows], metadata=self.metadata, words=self.words, **columns)

    def role(self, name: str) -> EmbeddingSet:
        """The rows of a role, by its name."""
        if self.roles is None:
            raise ValueError("these embeddings have no roles")
        rows = np.flatnonzero(self.roles == ROLES.index(name))
        if not len(rows):
            raise ValueError(f"no row has the role {name!r}")
        return self.select(rows)


def check_same_words(one: EmbeddingSet, other: EmbeddingSet) -> None:
    """TypeError where labels or groups are words in one and numbers in the other: none would equal another."""
    for name in ("labels", "group_ids"):
        both = getattr(one, name) is not None and getattr(other, name) is not None
        if both and (name in one.words) != (name in other.words):
            raise TypeError(f"{name} are words in one of the files and numbers in the other; make them of one kind")


def write_embeddings(
    path: str | Path, embeddings: ArrayLike, *, metadata: dict[str, object] | None = None, **columns: ArrayLike | None
) -> None:
    """Write a safetensors file; ``columns`` are labels, group_ids, ids and roles, each ``(N,)`` or None."""
    data = EmbeddingSet(embeddings, metadata=metadata or {}, **columns)
    if data.ids is not None and data.ids.dtype.kind == "U":
        raise ValueError("ids must be whole numbers here: safetensors files hold no words")
    tensors = {"embeddings": data.embeddings} | {name: getattr(data, name) for name in COLUMNS}
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items() if value is not None}
    path = Path(path)
    part = path.with_name(path.name + ".part")
    metadata = data.metadata | ({WORDS: sorted(data.words)} if data.words else {})
    save_file(tensors, part, {name: json.dumps(value) for name, value in metadata.items()})
    part.replace(path)


def read_embeddings(path: str | Path, column: str | None = None, label_column: str | None = None) -> EmbeddingSet:
    """Read a ``.safetensors``, ``.npz``, ``.npy`` or ``.parquet`` file, or a folder of shards (`shards.py`).

    A ``.npy`` holds vectors only and is memory-mapped; beside ``v.npy``, ``v.labels.npy`` and the like are read too, and
    ``v.metadata.json``.

    Args:
        path: The file or folder.
        column: Name of the vectors in it; by default embeddings, embedding, vectors, vector or features.
        label_column: Name of the labels in it; by default labels or label.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, a damaged file, a pickle in disguise, no vectors in it, no such column; NaN or infinite
            values, unless it is memory-mapped.
        ImportError: parquet without pyarrow.
    """
    path = Path(path)
    asked = {"embeddings": column, "labels": label_column}
    names = _ALIASES | {name: (given,) for name, given in asked.items() if given is not None}
    wanted = {alias for aliases in names.values() for alias in aliases}
    content = read_shards(path, wanted) if path.is_dir() else read_arrays(path, wanted)
    found = {
        name: next((content.arrays[alias] for alias in aliases if alias in content.arrays), None)
        for name, aliases in names.items()
    }
    for name, given in (asked | {"embeddings": column or "embeddings"}).items():
        if found[name] is None and given is not None:
            raise ValueError(f"{path} has no {given}; it holds {', '.join(content.names) or 'nothing'}")
    try:
        words = frozenset(content.metadata.pop(WORDS, ()))
        return _finite(EmbeddingSet(**found, metadata=content.metadata, words=words))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _finite(data: EmbeddingSet) -> EmbeddingSet:
    """The same; ValueError with NaN or infinite values in it. A memory map is checked when it is read."""
    if not isinstance(data.embeddings, np.memmap):
        bad = ~np.isfinite(data.embeddings).all(axis=1)
        if bad.any():
            raise ValueError(
                f"embeddings have NaN or infinite values in {bad.sum()} rows (first in row {bad.argmax()})"
            )
    return data


def _whole(value: ArrayLike, name: str, length: int) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), one for each embedding, got {array.shape}")
    if name != "labels" and array.dtype.kind == "O":
        if any(entry is None for entry in array.tolist()):
            raise ValueError(f"{name} has empty rows; only labels may be missing")
        array = np.array(array.tolist()) if label_kind(array, name) == "words" else array
    if array.dtype.kind == "U" and name == "ids":
        return array
    if name == "roles":
        words = array.dtype.kind == "U"
        unknown = np.unique(array[~np.isin(array, ROLES if words else range(len(ROLES)))])
        if len(unknown):
            raise ValueError(f"roles must be {', '.join(ROLES)} (or 0, 1, 2), got {', '.join(map(str, unknown[:3]))}")
        array = np.array([ROLES.index(word) for word in array]) if words else array
    return label_numbers(array, name)
