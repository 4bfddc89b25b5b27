"""A folder of embeddings in shards: many safetensors files that are read as one, and an index that is written last.

Each shard is a file of :func:`ipad_rerank.write_embeddings`. ``index.json`` names them in their order: ``{"shards":
[{"file", "rows"}, ...], "rows", "dim", "metadata"}``. A folder without it is not finished.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ipad_rerank.files.readers import COLUMNS, VECTORS, WORDS, Content, beside, read_arrays

INDEX = "index.json"


def shard_path(folder: str | Path, number: int) -> Path:
    """Where the shard of a number lies."""
    return Path(folder) / f"shard-{number:05d}.safetensors"


def shard_shape(path: Path) -> tuple[int, int]:
    """Rows and width of a shard, from its head.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds no embeddings.
    """
    return tuple(_facts(path)[VECTORS][0])


def write_index(
    folder: str | Path, shards: Sequence[Path], metadata: dict[str, Any] | None = None, **facts: Any
) -> None:
    """Declare a folder finished: all shards are there and fit together.

    Args:
        folder: Where the shards lie.
        shards: Their files, in the order in which they are read.
        metadata: Any JSON values by name; they come back with the embeddings.
        facts: Further keys of the index, which the readers here pass over.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: no shard; shards of different width, or with different columns.
    """
    if not shards:
        raise ValueError(f"{folder}: no shards, so there is nothing to read")
    first, rows = _facts(shards[0]), []
    for path in shards:
        mine = _facts(path)
        if {k: (s[1:], d) for k, (s, d) in mine.items()} != {k: (s[1:], d) for k, (s, d) in first.items()}:
            raise ValueError(f"{path} holds {_named(mine)}, and {shards[0].name} {_named(first)}; they must be alike")
        rows.append(mine[VECTORS][0][0])
    entries = [{"file": path.name, "rows": count} for path, count in zip(shards, rows, strict=True)]
    content = {"shards": entries, "rows": sum(rows), "dim": first[VECTORS][0][1], "metadata": metadata or {}} | facts
    part = Path(folder) / (INDEX + ".part")
    part.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    part.replace(Path(folder) / INDEX)


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of a folder.

    Raises:
        FileNotFoundError: there is none: no folder of shards, or not finished yet.
        ValueError: it cannot be read.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        begun = any(Path(folder).glob("shard-*"))
        why = "is not finished: what writes it has to be started again, and goes on" if begun else "holds no shards"
        raise FileNotFoundError(f"{folder} {why} (there is no {INDEX})")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        [(shard["file"], int(shard["rows"])) for shard in index["shards"]]
        int(index["rows"]), int(index["dim"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as an index of shards: {error!r}") from None
    return index


def read_shards(folder: Path, wanted: Collection[str]) -> Content:
    """The arrays of all shards, one after the other; at the memory of the whole and one shard.

    Raises:
        FileNotFoundError: as :func:`read_index`, or a shard is missing.
        ValueError: a damaged shard, or one that is not as long as the index says.
    """
    index = read_index(folder)
    return _filled(folder, index, wanted, lambda _, shape, dtype: np.empty(shape, dtype))


def join_shards(folder: str | Path, out: str | Path) -> tuple[int, int]:
    """Copy the shards of a folder into one ``.npy`` that is read as a memory map, at the memory of one shard.

    Labels, group ids, ids and roles go beside it, as ``NAME.labels.npy`` and so on, and the metadata as
    ``NAME.metadata.json``: names of values, and which columns were words. What lies there of an earlier file of that name
    is replaced or removed. The vectors come last, so that a file of that name is whole.

    Returns:
        Rows and width.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_shards`; ``out`` does not end in ``.npy``, or its folder is not there.
    """
    folder, out = Path(folder), Path(out)
    if out.suffix != ".npy":
        raise ValueError(f"shards are joined to a .npy file, which can be memory-mapped; got {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder")
    index = read_index(folder)
    with tempfile.TemporaryDirectory(prefix=out.name, dir=out.parent) as made:
        part = Path(made) / out.name

        def new(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
            return np.lib.format.open_memmap(beside(part, name), "w+", dtype, shape)

        content = _filled(folder, index, (VECTORS, *COLUMNS), new)
        for array in content.arrays.values():
            array.flush()
        if content.metadata:
            text = json.dumps(content.metadata, ensure_ascii=False, indent=1)
            beside(part, "metadata").write_text(text, encoding="utf-8")
        for name in (*COLUMNS, "metadata", VECTORS):
            if beside(part, name).is_file():
                beside(part, name).replace(beside(out, name))
            else:
                beside(out, name).unlink(missing_ok=True)
    return index["rows"], index["dim"]


def _filled(
    folder: Path,
    index: dict[str, Any],
    wanted: Collection[str],
    new: Callable[[str, tuple[int, ...], np.dtype], np.ndarray],
) -> Content:
    """The shards' arrays, one after the other in what ``new(name, shape, dtype)`` makes; metadata of shards and index."""
    arrays, metadata, names, words, start = {}, {}, [], set(), 0
    for shard in index["shards"]:
        path, rows = folder / Path(shard["file"]).name, shard["rows"]
        content = read_arrays(path, wanted)
        lengths = {name: len(array) for name, array in content.arrays.items()}
        if set(lengths.values()) != {rows}:
            raise ValueError(f"{path} must hold {rows} rows, as {folder / INDEX} says; it holds {lengths}")
        for name, part in content.arrays.items():
            if name not in arrays:
                arrays[name] = new(name, (index["rows"], *part.shape[1:]), part.dtype)
            arrays[name][start : start + rows] = part
        start, names, metadata = start + rows, content.names, metadata | content.metadata
        words |= set(content.metadata.get(WORDS, ()))  # a shard whose labels are all missing does not name them
    metadata |= ({WORDS: sorted(words)} if words else {}) | index.get("metadata", {})
    return Content(arrays, metadata, names)


def _facts(path: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and type of every tensor of a file, from its head."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            facts = {name: (each.get_shape(), each.get_dtype()) for name, each in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if VECTORS not in facts or len(facts[VECTORS][0]) != 2:
        raise ValueError(f"{path} holds no {VECTORS} (N, D), only {', '.join(facts) or 'nothing'}")
    return facts


def _named(facts: dict[str, tuple[list[int], str]]) -> str:
    return ", ".join(f"{name} {kind} {shape[1:]}" for name, (shape, kind) in sorted(facts.items()))
