"""Writing rows as Parquet shards of about equal size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

_ROWS_PER_GROUP = 100  # small row groups: a stream of JPEGs starts at once and shuffles cheaply

StoredImage = dict[str, Any] | None


class Shard(NamedTuple):
    """A written shard: its path below the prepared folder, its rows, its size and its SHA-256 (None: not known)."""

    file: str
    rows: int
    bytes: int
    sha256: str | None = None


def write_shards(
    folder: Path, split: str, rows: Dataset, images: Iterable[tuple[int, StoredImage]], shard_bytes: int
) -> list[Shard]:
    """Write a split as ``data/{split}-00000-of-00004.parquet``, there being one shard even without any rows.

    Args:
        folder: Where ``data`` is.
        split: Name of the split.
        rows: Where the labels come from; its own images are not read.
        images: Row number and new image of each row to write.
        shard_bytes: A shard is closed when its images have this size.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    schema = rows.features.arrow_schema
    labels = rows.remove_columns("image").with_format(None)
    written: list[tuple[Path, int]] = []
    for groups in _shards(_groups(images), shard_bytes):
        path = folder / "data" / f"{split}-{len(written):05d}.parquet"
        count = 0
        with path.open("wb") as file:
            with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
                for group in groups:
                    table = labels.select([number for number, _ in group]).to_list()
                    filled = [{**row, "image": image} for row, (_, image) in zip(table, group, strict=True)]
                    writer.write_table(pa.Table.from_pylist(filled, schema=schema), row_group_size=_ROWS_PER_GROUP)
                    count += len(group)
            file.flush()
            os.fsync(file.fileno())
        written.append((path, count))
    shards = []
    for number, (path, count) in enumerate(written):
        final = path.rename(path.with_name(f"{split}-{number:05d}-of-{len(written):05d}.parquet"))
        shards.append(Shard(f"data/{final.name}", count, final.stat().st_size, file_digest(final)))
    return shards


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _groups(images: Iterable[tuple[int, StoredImage]]) -> Iterator[list[tuple[int, StoredImage]]]:
    group: list[tuple[int, StoredImage]] = []
    for item in images:
        group.append(item)
        if len(group) == _ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _shards(groups: Iterator[list], shard_bytes: int) -> Iterator[Iterator[list]]:
    """Groups of rows, divided into shards of about ``shard_bytes``; each must be used up before the next is asked for."""

    def shard(first: list) -> Iterator[list]:
        written = 0
        for group in chain([first], groups):
            written += sum(len(image["bytes"]) for _, image in group if image is not None) + len(group)
            yield group
            if written >= shard_bytes:
                return

    first = next(groups, None)
    if first is None:
        yield iter(())
    while first is not None:
        yield shard(first)
        first = next(groups, None)
