"""What is embedded: the labelled photos of a split, or photos of which nothing is known but their files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import datasets
import numpy as np
import pyarrow.compute as pc

from ipad_data import EntryTable
from ipad_data.roles import ROLES
from ipad_data.stored_images import with_stored_images
from ipad_train.catalogue.photo_files import find_photos, read_photo
from ipad_train.catalogue.photo_table import read_photo_table

_ROWS = 1024


class Entries(NamedTuple):
    """What is asked of some photos: ``image_index (B,)`` among them, ``attribute_ids (B,)``, and columns to write."""

    image_index: np.ndarray
    attribute_ids: np.ndarray
    columns: dict[str, np.ndarray]


class Photos(Protocol):
    """Photos in a fixed order, counted from 0. They are sent to loader workers."""

    def __len__(self) -> int: ...

    def name(self, photo: int) -> str:
        """What its file is called."""

    def id(self, photo: int) -> int:
        """Its number in the files that are written."""

    def stored(self, photo: int) -> str | bytes:
        """Its file's path, or content."""

    def rows(self, photos: np.ndarray) -> np.ndarray:
        """Rows of the dataset that hold these photos."""

    def entries(self, photos: np.ndarray) -> Entries:
        """What is asked of these photos."""

    def digest(self) -> str:
        """Equal for the same photos in the same order with the same labels; files are looked at from outside only."""


class FilePhotos:
    """Photos without labels; every attribute is asked of each.

    Args:
        folder: Where they lie.
        names: Relative to it, with forward slashes.
        num_attributes: Of the model.
    """

    def __init__(self, folder: Path, names: Sequence[str], num_attributes: int) -> None:
        self.folder, self.names, self.num_attributes = folder, list(names), num_attributes

    def __len__(self) -> int:
        return len(self.names)

    def name(self, photo: int) -> str:
        return self.names[photo]

    def id(self, photo: int) -> int:
        return photo

    def stored(self, photo: int) -> bytes:
        return read_photo(self.folder, self.names[photo])

    def rows(self, photos: np.ndarray) -> np.ndarray:
        return photos

    def entries(self, photos: np.ndarray) -> Entries:
        count = self.num_attributes
        attribute_ids = np.tile(np.arange(count), len(photos))
        columns = {"group_ids": attribute_ids, "ids": np.repeat(photos, count)}
        return Entries(np.repeat(np.arange(len(photos)), count), attribute_ids, columns)

    def digest(self) -> str:
        facts = [os.stat(self.folder / name) for name in self.names]
        looks = np.array([(fact.st_size, fact.st_mtime_ns) for fact in facts], dtype=np.int64)
        return _digest("\n".join(self.names).encode(errors="surrogateescape"), looks.tobytes())


class SplitPhotos:
    """The labelled photos of a split, of some roles, in its order; of each the attributes that it has a label of.

    Args:
        dataset: The split.
        roles: Of the entries that are kept.

    Raises:
        ValueError: no entry has one of the roles.
    """

    def __init__(self, dataset: datasets.Dataset, roles: Sequence[str]) -> None:
        table = EntryTable.from_dataset(dataset)
        kept = np.isin(table.roles, [ROLES.index(role) for role in roles])
        if not kept.any():
            raise ValueError(f"the split {dataset.split} has no entries of roles {', '.join(roles)}")
        self._attribute_ids = table.attribute_ids[kept]
        self._columns = {
            "labels": table.value_ids[kept],
            "group_ids": self._attribute_ids,
            "ids": table.image_ids[kept],
            "roles": table.roles[kept],
        }
        self._rows, starts = np.unique(table.rows[kept], return_index=True)
        self._bounds = np.append(starts, kept.sum())
        self._images = with_stored_images(dataset.select_columns(["image"]).with_format(None))
        names = _names_of(self._images)
        self._paths = [names[row] for row in self._rows]
        self._split = str(dataset.split)

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, photo: int) -> str:
        return self._paths[photo] or f"{self._split}/{self.id(photo)}"

    def id(self, photo: int) -> int:
        return int(self._columns["ids"][self._bounds[photo]])

    def stored(self, photo: int) -> str | bytes:
        image = self._images[int(self._rows[photo])]["image"]
        if image is None:
            raise ValueError(f"row {self._rows[photo]} has labels but no image (missing_images='label_only')")
        return image["path"] if image["bytes"] is None else image["bytes"]

    def rows(self, photos: np.ndarray) -> np.ndarray:
        return self._rows[photos]

    def entries(self, photos: np.ndarray) -> Entries:
        parts = [np.arange(self._bounds[photo], self._bounds[photo + 1]) for photo in photos]
        kept = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        image_index = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        columns = {name: column[kept] for name, column in self._columns.items()}
        return Entries(image_index, self._attribute_ids[kept], columns)

    def digest(self) -> str:
        return _digest(*(np.ascontiguousarray(column).tobytes() for column in self._columns.values()))


def find_unlabelled(
    source: Path, schema: Mapping[str, Sequence[str]], image_column: str | None = None
) -> tuple[FilePhotos, list[str]]:
    """Photos of a folder, or those that a table names, relative to the table's folder.

    Args:
        source: The folder, or a CSV, TSV, JSON lines or Parquet file.
        schema: Attributes of the model.
        image_column: The table's column of names; by default one called image, file, file_name or the like.

    Returns:
        The photos, and what of the folder was left out, each with the reason.

    Raises:
        FileNotFoundError: neither; or the table names photos that are not there.
        ValueError: no photo in it; a table without names.
    """
    if source.is_dir():
        if image_column is not None:
            raise ValueError(f"--image-column is for a table, and --photos {source} is a folder")
        found, left_out = find_photos(source)
        return FilePhotos(source, [photo.name for photo in found], len(schema)), left_out
    if not source.is_file():
        raise FileNotFoundError(f"--photos {source}: there is no such folder or table")
    names = list(read_photo_table(source, image_column=image_column).rows)
    if not names:
        raise ValueError(f"{source} names no photo: it has no rows")
    absent = [name for name in names if name == "." or not (source.parent / name).is_file()]
    if absent:
        shown = ", ".join(repr("" if name == "." else name) for name in absent[:3])
        raise FileNotFoundError(f"{source} names {len(absent)} photos that are not in {source.parent}: {shown}")
    return FilePhotos(source.parent, names, len(schema)), []


def _names_of(images: datasets.Dataset) -> list[str | None]:
    """The path of every row's image, a part of the rows at a time: whole images may lie beside their names."""
    arrow, names = images.with_format("arrow"), []
    for start in range(0, len(images), _ROWS):
        names += pc.struct_field(arrow[start : start + _ROWS]["image"], "path").to_pylist()
    return names


def _digest(*contents: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
