"""Prepared folders: what `ipad-data prepare` made of a dataset, and reading it back.

``OUT/prepared.json`` says what was prepared and lists the shards, ``OUT/data/{split}-00000-of-00004.parquet``.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset
from datasets.exceptions import DatasetGenerationError
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from pyarrow.dataset import ParquetFragmentScanOptions

from ipad_data.errors import DatasetFilesNotFoundError, DataWarning, LabelFileError
from ipad_data.shards import Shard, file_digest

MANIFEST = "prepared.json"
_FORMAT = 2
_READABLE = (1, _FORMAT)  # the first had no checksums
_VERIFIED = "ipad_data_verified"
_AGAIN = "Copy the folder again, or prepare it anew: `ipad-data prepare NAME DIR --out FOLDER`."


@dataclass(frozen=True)
class Manifest:
    """What a prepared folder holds.

    Attributes:
        dataset: Name under which ``load`` read the originals; None where that is not known.
        options: Options that ``load`` was given; None where they are not known.
        size: Shorter side of the images in pixels, at most.
        quality: JPEG quality.
        shards: Split -> its files.
    """

    dataset: str | None
    options: dict[str, Any] | None
    size: int
    quality: int
    shards: dict[str, list[Shard]]

    @property
    def rows(self) -> dict[str, int]:
        """Split -> number of rows."""
        return {split: sum(shard.rows for shard in shards) for split, shards in self.shards.items()}

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shards in self.shards.values() for shard in shards)

    @property
    def digest(self) -> str:
        """What stands for the content of all shards."""
        return sha256(repr(self.shards).encode()).hexdigest()

    def to_json(self) -> str:
        """Text of ``prepared.json``."""
        shards = {split: [shard._asdict() for shard in shards] for split, shards in self.shards.items()}
        fields = {"format": _FORMAT, **asdict(self), "shards": shards}
        return json.dumps(fields, ensure_ascii=False, indent=1, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> Manifest:
        """Inverse of :meth:`to_json`.

        Raises:
            LabelFileError: not a manifest of this format.
        """
        try:
            fields = json.loads(text)
            if fields.pop("format") not in _READABLE:
                raise LabelFileError.at(path, None, f"format must be at most {_FORMAT}; prepare the folder anew")
            shards = {split: [Shard(**shard) for shard in shards] for split, shards in fields.pop("shards").items()}
            return cls(**fields, shards=shards)
        except json.JSONDecodeError as error:
            raise LabelFileError.at(path, error.lineno, f"not JSON: {error.msg}") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise LabelFileError.at(path, None, f"not what `ipad-data prepare` writes: {error}") from None

    def check(self, name: str, options: Mapping[str, Any], defaults: Mapping[str, Any], folder: str) -> None:
        """Raise ``ValueError`` where ``load(name, folder, **options)`` asks for something else than was prepared."""
        if self.dataset not in (None, name):
            raise ValueError(f"{folder} was prepared from {self.dataset!r}, got {name!r}; load it under its own name")
        for option, value in options.items():
            if self.options is None:
                raise ValueError(f"{folder} does not say with which {option} it was prepared; leave {option} out")
            prepared = self.options.get(option, defaults.get(option))
            if json.loads(json.dumps(value, default=str)) != prepared:
                raise ValueError(
                    f"{folder} was prepared with {option}={prepared!r}, got {value!r}; "
                    f"leave {option} out, or prepare the originals anew"
                )


def is_prepared(folder: str | PathLike[str]) -> bool:
    """Whether a folder is a prepared one, or what is left of one. A URL is taken for one: nothing else is read there."""
    if "://" in str(folder):
        return True
    path = Path(folder).expanduser()
    return (path / MANIFEST).is_file() or any((path / "data").glob("*-of-*.parquet"))


def read_manifest(folder: str | PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Manifest:
    """Manifest of a prepared folder.

    Raises:
        DatasetFilesNotFoundError: there is none.
        LabelFileError: it is not one.
    """
    filesystem, root = _open_folder(folder, storage_options)
    path = f"{root}/{MANIFEST}"
    try:
        text = filesystem.read_text(path, encoding="utf-8")
    except FileNotFoundError:
        raise DatasetFilesNotFoundError.explain(f"{MANIFEST} of a prepared folder", [path], _AGAIN) from None
    return Manifest.from_json(text, path)


def find_shards(folder: str | PathLike[str], storage_options: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """Split -> paths or URLs of its shards, all of them there in full.

    Raises:
        DatasetFilesNotFoundError: no prepared folder, or shards are missing or cut off.
    """
    manifest = read_manifest(folder, storage_options)
    filesystem, root = _open_folder(folder, storage_options)
    files = {name: [f"{root}/{shard.file}" for shard in shards] for name, shards in manifest.shards.items()}
    for name, shards in manifest.shards.items():
        wrong = [
            path for path, shard in zip(files[name], shards, strict=True) if _size(filesystem, path) != shard.bytes
        ]
        if wrong:
            what = f"{len(wrong)} of {len(shards)} shards of {name} (or a part of them)"
            raise DatasetFilesNotFoundError.explain(what, wrong[:3], _AGAIN)
    if "://" in str(folder):
        files = {name: [filesystem.unstrip_protocol(path) for path in paths] for name, paths in files.items()}
    return files


def verify_shards(folder: str | PathLike[str], memory: Path | None = None) -> None:
    """Compare every shard of a local folder with its checksum. Warns where the folder has none, being of an older version.

    Args:
        folder: The prepared folder.
        memory: Folder in which a shard that was found right is remembered, by its place, size and time of change; then it
            is not read again. None: all are read.

    Raises:
        DatasetFilesNotFoundError: no prepared folder, or shards are missing or cut off.
        LabelFileError: a shard is not what was written.
    """
    files, shards = find_shards(folder), read_manifest(folder).shards
    if any(shard.sha256 is None for of_split in shards.values() for shard in of_split):
        warnings.warn(f"{folder} has no checksums; prepare it anew to have damage noticed", DataWarning, stacklevel=3)
        return
    for split, paths in files.items():
        for path, shard in zip(paths, shards[split], strict=True):
            found = os.stat(path)
            key = sha256(
                f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0{shard.sha256}".encode(errors="surrogateescape")
            )
            mark = None if memory is None else memory / key.hexdigest()
            if mark is not None and mark.is_file():
                continue
            if file_digest(path) != shard.sha256:
                raise LabelFileError.at(path, None, f"not what was written: the checksum differs. {_AGAIN}")
            if mark is not None:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()


def load_prepared(
    folder: str | PathLike[str],
    split: str | None = None,
    streaming: bool = False,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load what :func:`~ipad_data.prepare.prepare` wrote: the same columns and schema as ``ipad_data.load``.

    Args:
        folder: The folder, or the URL of its copy in an object storage that ``fsspec`` knows, e.g. ``s3://...``.
        split: ``train``, ``validation`` or ``test``, or a slice as ``datasets`` writes it, e.g. ``train[:10%]``; all
            splits when None. Streams have no slices.
        streaming: Read shard by shard without building a table. Shuffle before dividing over ranks.
        cache_dir: Where built tables are kept; the cache of ``datasets`` when None.
        num_proc: Processes that build the table; one when None.
        storage_options: Credentials and the like for ``fsspec``.

    Raises:
        DatasetFilesNotFoundError: no prepared folder, or shards are missing or cut off.
        LabelFileError: a shard of a local folder is not what was written.
        OSError: a shard cannot be read, or a part of it is not what was written.
        ValueError: no such split.
    """
    files = find_shards(folder, storage_options)
    check_split(split, files)
    if "://" not in str(folder):
        verify_shards(folder, Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / _VERIFIED)
    try:
        return load_dataset(
            "parquet",
            # datasets keys its cache on the files' names and times, which a folder put in place of another may share.
            name=read_manifest(folder, storage_options).digest[:32],
            data_files=files,
            split=split,
            streaming=streaming,
            cache_dir=None if cache_dir is None else str(cache_dir),
            num_proc=None if streaming else num_proc,
            storage_options=None if storage_options is None else dict(storage_options),
            fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True),
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, OSError):
            raise OSError(f"{folder}: {error.__cause__}. {_AGAIN}") from error
        raise


def check_split(split: str | None, names: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``split`` is None, or made of these names as ``datasets`` slices them: ``train[:10%]``."""
    names = list(names)
    parts = [] if split is None else [part.strip() for part in split.split("+")]
    if unknown := [part for part in parts if part.partition("[")[0] not in names]:
        raise ValueError(
            f"split must be one of {', '.join(names)}, or slices of them such as '{names[0]}[:10%]'; got {unknown[0]!r}"
        )


def _open_folder(
    folder: str | PathLike[str], storage_options: Mapping[str, Any] | None
) -> tuple[AbstractFileSystem, str]:
    url = str(folder) if "://" in str(folder) else str(Path(folder).expanduser().absolute())
    filesystem, root = url_to_fs(url, **(storage_options or {}))
    return filesystem, root.rstrip("/")


def _size(filesystem: AbstractFileSystem, path: str) -> int | None:
    try:
        return filesystem.size(path)
    except FileNotFoundError:
        return None
