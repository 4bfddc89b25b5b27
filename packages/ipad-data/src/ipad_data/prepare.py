"""Preparing a dataset once, so that training does not decode large originals every epoch.

Every image is decoded and shrunk once; the JPEG bytes go into Parquet shards next to the labels. ``ipad_data.load`` takes
the folder in place of the originals; the shards load memory-mapped or stream, from disk or object storage.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from filelock import FileLock, Timeout

from ipad_data.builders import DATASETS
from ipad_data.errors import ImageDecodeError
from ipad_data.image_check import map_in_processes
from ipad_data.prepared import MANIFEST, Manifest
from ipad_data.shards import StoredImage, write_shards
from ipad_data.stored_images import with_stored_images
from ipad_data.transforms.shrink import shrink_image

UNREADABLE = ("raise", "skip")
_SHARD_BYTES = 256 << 20
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class PrepareReport:
    """What :func:`prepare` wrote, and why images were left out."""

    out: Path
    manifest: Manifest
    unreadable: list[str]

    def __str__(self) -> str:
        splits = ", ".join(
            f"{split} {rows} rows in {len(self.manifest.shards[split])} shards"
            for split, rows in self.manifest.rows.items()
        )
        skipped = f"; {len(self.unreadable)} unreadable images left out" if self.unreadable else ""
        return f"{self.out}: {splits} ({self.manifest.num_bytes / 1e6:.1f} MB){skipped}"


def prepare(
    dataset: DatasetDict,
    out: str | Path,
    size: int = 512,
    quality: int = 90,
    unreadable: str = "raise",
    shard_bytes: int = _SHARD_BYTES,
    workers: int | None = None,
    progress: bool = False,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> PrepareReport:
    """Write a dataset as Parquet shards of small JPEGs with their labels.

    The shards are written into a folder beside ``out`` that is renamed into place when all is there, so no one ever
    reads a half-written shard: after an error or a crash there is no ``out``. What a killed run left is removed by the next
    one that writes to the same place.

    Args:
        dataset: What ``ipad_data.load`` returns. Rows without an image keep none.
        out: Folder to make; it must not exist, or be empty.
        size: Shorter side of the images in pixels, at most. Best the ``detail_size`` of training, never less.
        quality: JPEG quality, within [1, 95].
        unreadable: ``raise`` stops at an image that cannot be decoded; ``skip`` leaves out its row and reports it.
            Image ids never change.
        shard_bytes: A shard is closed at about this size.
        workers: Processes; as many as there are cores when None.
        progress: Show progress bars.
        name: What the dataset was loaded as; the name of its builder when None. Written down, as are the options, so
            that a later ``load`` can tell whether the folder is what it asks for.
        options: Options that it was loaded with; not known when None.

    Raises:
        ValueError: an argument out of its range.
        FileExistsError: ``out`` holds something, from before or by now, or another process is making it.
        ImageDecodeError: an image cannot be decoded and ``unreadable="raise"``.
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    if unreadable not in UNREADABLE:
        raise ValueError(f"unreadable must be one of {', '.join(UNREADABLE)}, got {unreadable!r}")
    for argument, value, low, high in (("size", size, 16, 1 << 14), ("quality", quality, 1, 95)):
        if not low <= value <= high:
            raise ValueError(f"{argument} must be within [{low}, {high}], got {value}")
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes must be at least 1, got {shard_bytes}")
    out = Path(out).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists already; name a new folder or delete it")
    builders = {rows.info.builder_name for rows in dataset.values()} & set(DATASETS)
    name = name or (builders.pop() if len(builders) == 1 else None)
    manifest = Manifest(name, None if options is None else dict(options), size, quality, {})
    shrinker = _Shrinker(size, quality, unreadable, workers, progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        return _write(dataset, out, manifest, shrinker, shard_bytes)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes from preparing the same folder, and clean up after those that were killed at it."""
    lock = FileLock(out.parent / f".{out.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(f"{out} is being made by another process") from None
    try:
        for leftover in out.parent.glob(f".{glob.escape(out.name)}{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _write(
    dataset: DatasetDict, out: Path, manifest: Manifest, shrinker: _Shrinker, shard_bytes: int
) -> PrepareReport:
    partial_out = Path(tempfile.mkdtemp(prefix=f".{out.name}{_PARTIAL}", dir=out.parent))
    try:
        (partial_out / "data").mkdir()
        for split, rows in dataset.items():
            rows = with_stored_images(rows)
            images = shrinker.shrink(split, rows)
            manifest.shards[split] = write_shards(partial_out, split, rows, images, shard_bytes)
        (partial_out / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        partial_out.chmod(0o777 & ~_umask())
        _sync(partial_out / "data")
        os.replace(partial_out, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, f"no space left while writing {out}; nothing was kept") from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"{out} was made by another process meanwhile and stays as it is") from error
        raise
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)
    return PrepareReport(out, manifest, shrinker.problems)


@dataclass
class _Shrinker:
    """Shrinks the images of splits and collects what could not be read."""

    size: int
    quality: int
    unreadable: str
    workers: int | None
    progress: bool
    problems: list[str] = field(default_factory=list)

    def shrink(self, split: str, rows: Dataset) -> Iterator[tuple[int, StoredImage]]:
        """Row number and stored image of every row that is kept."""
        function = partial(_try_shrink, size=self.size, quality=self.quality)
        title = f"Preparing {split}" if self.progress else None
        for number, (name, image, problem) in enumerate(
            map_in_processes(function, _Sources(rows), self.workers, title)
        ):
            if problem is None:
                yield number, None if image is None else {"path": name, "bytes": image}
            elif self.unreadable == "raise":
                raise ImageDecodeError(f"{problem} (unreadable='skip' leaves such rows out)")
            else:
                self.problems.append(problem)


class _Sources:
    """Stored images of a dataset, fetched when asked for: the bytes of all images need not fit in memory."""

    def __init__(self, rows: Dataset) -> None:
        self._images = rows.select_columns(["image"]).with_format(None)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[tuple[int, StoredImage]]:
        return ((number, row["image"]) for number, row in enumerate(self._images))


def _try_shrink(item: tuple[int, StoredImage], size: int, quality: int) -> tuple[str | None, bytes | None, str | None]:
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
