"""Preparing a dataset once, so that training does not decode large originals every epoch.

``prepare`` decodes and shrinks every image once and writes Parquet shards with the JPEG bytes next to the labels:
``OUT/data/{split}-00000-of-00004.parquet``. They load memory-mapped or stream, from disk or object storage, with
:func:`load_prepared` or with ``datasets.load_dataset(OUT)``.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset
from PIL import Image

from ipad_data.errors import DatasetFilesNotFoundError, ImageDecodeError
from ipad_data.image_check import map_in_processes
from ipad_data.roles import SPLITS
from ipad_data.transforms.decode import open_image

UNREADABLE = ("raise", "skip")
_ROWS_PER_GROUP = 100  # small row groups: a stream of JPEGs starts at once and shuffles cheaply
_SHARD_BYTES = 256 << 20


@dataclass
class PrepareReport:
    """What :func:`prepare` wrote: rows and shards of each split, and why images were left out."""

    out: Path
    rows: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    num_bytes: int = 0

    def __str__(self) -> str:
        splits = ", ".join(f"{split} {rows} rows in {self.shards[split]} shards" for split, rows in self.rows.items())
        skipped = f"; {len(self.unreadable)} unreadable images left out" if self.unreadable else ""
        return f"{self.out}: {splits} ({self.num_bytes / 1e6:.1f} MB){skipped}"


def shrink_image(source: str | bytes, size: int, quality: int = 90, name: str | None = None) -> bytes:
    """JPEG of an image whose shorter side is at most ``size``: any square up to that size loses nothing.

    Small images keep their size. The result is RGB, upright and without metadata.

    Raises:
        ImageDecodeError: the image cannot be decoded.
    """
    image = open_image(source, size, name)
    scale = size / min(image.size)
    if scale < 1:
        target = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def prepare(
    dataset: DatasetDict,
    out: str | Path,
    size: int = 512,
    quality: int = 90,
    unreadable: str = "raise",
    shard_bytes: int = _SHARD_BYTES,
    workers: int | None = None,
    progress: bool = False,
) -> PrepareReport:
    """Write a dataset as Parquet shards of small JPEGs with their labels.

    The shards are written into a folder beside ``out`` that is renamed into place when all is there, so no one ever
    reads a half-written shard: after an error or a crash there is no ``out``.

    Args:
        dataset: What ``ipad_data.load`` returns. Rows without an image keep none.
        out: Folder to make; it must not exist, or be empty.
        size: Shorter side of the images in pixels, at most. Choose no less than the ``detail_size`` of training.
        quality: JPEG quality, within [1, 95].
        unreadable: ``raise`` stops at an image that cannot be decoded; ``skip`` leaves out its row and reports it.
            Image ids never change.
        shard_bytes: A shard is closed at about this size.
        workers: Processes; as many as there are cores when None.
        progress: Show progress bars.

    Raises:
        ValueError: an argument out of its range.
        FileExistsError: ``out`` holds something.
        ImageDecodeError: an image cannot be decoded and ``unreadable="raise"``.
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    if unreadable not in UNREADABLE:
        raise ValueError(f"unreadable must be one of {', '.join(UNREADABLE)}, got {unreadable!r}")
    for name, value, low, high in (("size", size, 16, 1 << 14), ("quality", quality, 1, 95)):
        if not low <= value <= high:
            raise ValueError(f"{name} must be within [{low}, {high}], got {value}")
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes must be at least 1, got {shard_bytes}")
    out = Path(out).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists already; name a new folder or delete it")
    report = PrepareReport(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial_out = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        (partial_out / "data").mkdir()
        for split, rows in dataset.items():
            images = _shrunk(rows, split, size, quality, unreadable, workers, progress, report)
            _write_split(partial_out / "data", split, rows, images, shard_bytes, report)
        partial_out.chmod(0o777 & ~_umask())
        _sync(partial_out / "data")
        os.replace(partial_out, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, f"no space left while writing {out}; nothing was kept") from error
        raise
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)
    return report


def _shrunk(
    rows: Dataset,
    split: str,
    size: int,
    quality: int,
    unreadable: str,
    workers: int | None,
    progress: bool,
    report: PrepareReport,
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Row number and stored image of every row that is kept."""
    sources = _Sources(rows)
    shrunk = map_in_processes(
        partial(_try_shrink, size=size, quality=quality), sources, workers, f"Preparing {split}" if progress else None
    )
    for number, (name, image, problem) in enumerate(shrunk):
        if problem is None:
            yield number, None if image is None else {"path": name, "bytes": image}
        elif unreadable == "raise":
            raise ImageDecodeError(f"{problem} (unreadable='skip' leaves such rows out)")
        else:
            report.unreadable.append(problem)


class _Sources:
    """Stored images of a dataset, fetched when asked for: the bytes of all images need not fit in memory."""

    def __init__(self, rows: Dataset) -> None:
        self._images = rows.select_columns(["image"]).with_format(None)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        return ((number, row["image"]) for number, row in enumerate(self._images))


def _try_shrink(
    item: tuple[int, dict[str, Any] | None], size: int, quality: int
) -> tuple[str | None, bytes | None, str | None]:
    """Name, JPEG and problem of a stored image; module-level and free of exceptions, for worker processes."""
    number, stored = item
    if stored is None:
        return None, None, None
    name = os.path.basename(stored["path"]) if stored["path"] else None
    source = stored["bytes"] if stored["bytes"] is not None else stored["path"]
    try:
        return name, shrink_image(source, size, quality, stored["path"] or f"row {number}"), None
    except ImageDecodeError as error:
        return name, None, str(error)


def _write_split(
    folder: Path,
    split: str,
    rows: Dataset,
    images: Iterable[tuple[int, dict[str, Any] | None]],
    shard_bytes: int,
    report: PrepareReport,
) -> None:
    schema = rows.features.arrow_schema
    labels = rows.remove_columns("image").with_format(None)
    shards: list[Path] = []
    report.rows[split] = 0
    for group_of_shard in _shards(_groups(images), shard_bytes):
        shards.append(folder / f"{split}-{len(shards):05d}.parquet")
        with shards[-1].open("wb") as file:
            with pq.ParquetWriter(file, schema) as writer:
                for group in group_of_shard:
                    table = labels.select([number for number, _ in group]).to_list()
                    filled = [{**row, "image": image} for row, (_, image) in zip(table, group, strict=True)]
                    writer.write_table(pa.Table.from_pylist(filled, schema=schema), row_group_size=_ROWS_PER_GROUP)
                    report.rows[split] += len(group)
            file.flush()
            os.fsync(file.fileno())
        report.num_bytes += shards[-1].stat().st_size
    for number, path in enumerate(shards):
        path.rename(folder / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
    report.shards[split] = len(shards)


def _groups(images: Iterable[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    group: list[tuple[int, Any]] = []
    for item in images:
        group.append(item)
        if len(group) == _ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _shards(groups: Iterator[list], shard_bytes: int) -> Iterator[Iterator[list]]:
    """Groups of rows, divided into shards of about ``shard_bytes``; there is one even without any rows."""
    following = next(groups, None)
    if following is None:
        yield iter(())

    def shard() -> Iterator[list]:
        nonlocal following
        written = 0
        while following is not None and written < shard_bytes:
            current = following
            written += sum(len(image["bytes"]) for _, image in current if image is not None) + len(current)
            yield current
            following = next(groups, None)

    while following is not None:
        yield shard()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    """Make the names of the files durable, where the system can (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load_prepared(
    folder: str | Path, split: str | None = None, streaming: bool = False, cache_dir: str | Path | None = None
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load what :func:`prepare` wrote: the same columns and schema as ``ipad_data.load``.

    Args:
        folder: The folder that ``prepare`` made.
        split: ``train``, ``validation`` or ``test``; all of them when None.
        streaming: Read shard by shard without building a table.
        cache_dir: Where built tables are kept; the cache of ``datasets`` when None.

    Raises:
        DatasetFilesNotFoundError: the folder holds no shards, or not all of a split's.
        ValueError: no such split.
    """
    folder = Path(folder).expanduser()
    files = {name: sorted((folder / "data").glob(f"{name}-*-of-*.parquet")) for name in SPLITS}
    files = {name: [str(path) for path in paths] for name, paths in files.items() if paths}
    if not files:
        how = "Make them with `ipad-data prepare NAME DIR --out FOLDER`."
        raise DatasetFilesNotFoundError.explain("prepared shards", [folder / "data" / "*.parquet"], how)
    for name, paths in files.items():
        expected = int(paths[0].rpartition("-of-")[2].removesuffix(".parquet"))
        if len(paths) != expected:
            how = "Copy the folder again, or prepare it anew."
            raise DatasetFilesNotFoundError.explain(
                f"{expected - len(paths)} of {expected} shards of {name}", paths, how
            )
    if split is not None and split not in files:
        raise ValueError(f"split must be one of {', '.join(files)}, got {split!r}")
    return load_dataset(
        "parquet",
        data_files=files,
        split=split,
        streaming=streaming,
        cache_dir=None if cache_dir is None else str(cache_dir),
    )
