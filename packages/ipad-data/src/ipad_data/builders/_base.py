"""What all builders share: the columns of a row, and a cache key that sees what the files hold.

``datasets`` keys its cache on the module's name and on the options, ``data_dir`` being a string among them. A label
edited or an image added would go unnoticed, so the key here also holds a digest of the annotation files' content and
of the listing of the image folders. ``datasets`` guards building by a
file lock, so two processes may build at once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets import (
    BuilderConfig,
    ClassLabel,
    DatasetInfo,
    Features,
    GeneratorBasedBuilder,
    Image,
    List,
    Value,
    Version,
)

from ipad_data.roles import ROLES
from ipad_data.schema import AttributeSchema


def row_features(schema: AttributeSchema, boxes: bool = False, subject: bool = False) -> Features:
    """Columns of every dataset of this package: one row per image, its labels as parallel lists of entries.

    ``image`` stays a path or bytes (decoded late); ``image_id``; ``attribute_ids``, ``value_ids`` (flat) and ``roles``
    are parallel. With ``boxes``, each entry also has the boxes ``x0, y0, x1, y1`` in [0, 1] of its region, none where
    they are not known. With ``subject``, the row has the box of what it shows (the person; empty where not known) and
    each entry its ``box_chance``: the share of the subject's pixels within the entry's boxes, 0 where it has none.
    """
    features = Features(image=Image(decode=False), image_id=Value("int64"), **schema.features())
    features["roles"] = List(ClassLabel(names=list(ROLES)))
    if boxes:
        features["boxes"] = List(List(List(Value("float32"), length=4)))
    if subject:
        features["subject"] = List(Value("float32"))
        features["box_chance"] = List(Value("float32"))
    return features


def make_row(image: str | bytes, image_id: int, entries: Iterable[tuple[int, int, int]]) -> dict[str, Any]:
    """Row of an image from its entries ``(attribute id, flat value id, role)``; images are given as path or bytes."""
    stored = {"path": None, "bytes": image} if isinstance(image, bytes) else {"path": image, "bytes": None}
    entries = list(entries)
    return {
        "image": stored,
        "image_id": image_id,
        "attribute_ids": [attribute for attribute, _, _ in entries],
        "value_ids": [value for _, value, _ in entries],
        "roles": [role for _, _, role in entries],
    }


def list_files(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it, with ``/``, sorted. Faster than ``Path.rglob``."""
    found = []
    for root, _, names in os.walk(folder):
        relative = os.path.relpath(root, folder).replace(os.sep, "/")
        found += [name if relative == "." else f"{relative}/{name}" for name in names]
    return sorted(found)


def content_digest(annotation_files: Iterable[Path], image_folders: Iterable[Path], stamps: bool = False) -> str:
    """Digest of the content of annotation files and of the names of the files in image folders.

    With ``stamps``, also of the sizes of these files and the times when they were changed.
    """
    digest = hashlib.sha256()
    for path in sorted(annotation_files):
        digest.update(f"file {path.name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    for folder in image_folders:
        digest.update(f"folder {folder}\0".encode(errors="surrogateescape"))
        names = list_files(folder)
        digest.update("\0".join(names).encode(errors="surrogateescape"))
        for name in names if stamps else ():
            with suppress(OSError):  # a link to nowhere
                found = os.stat(folder / name)
                digest.update(f"\0{name} {found.st_size} {found.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


@dataclass
class AttributeDatasetConfig(BuilderConfig):
    """Options of a builder. Subclasses add fields and check them in ``__post_init__``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir is not None:
            self.data_dir = os.path.abspath(os.path.expanduser(self.data_dir))

    @property
    def folder(self) -> Path:
        """The data folder.

        Raises:
            ValueError: no ``data_dir`` was given.
        """
        if self.data_dir is None:
            raise ValueError("data_dir must be the folder of the dataset, got None")
        return Path(self.data_dir)


class AttributeDatasetBuilder(GeneratorBasedBuilder):
    """Base of the builders. One builder per module: ``datasets`` names the cache folder after the module.

    Subclasses set ``BUILDER_CONFIG_CLASS`` and ``VERSION`` (raise it when the parser changes) and define
    ``annotation_files``, ``image_folders``, ``_info``, ``_split_generators`` and ``_generate_examples``. Parse in
    ``_split_generators`` rather than in ``_generate_examples``, whose errors ``datasets`` wraps in its own.

    Args:
        cache_dir: Where built tables go; by default the cache of ``datasets``.
        options: Fields of the configuration class.

    Attributes:
        CITATION, LICENSE, HOMEPAGE: What ``dataset.info`` says; empty where it is not known.
    """

    CITATION: ClassVar[str] = ""
    LICENSE: ClassVar[str] = ""
    HOMEPAGE: ClassVar[str] = ""
    BUILDER_CONFIG_CLASS = AttributeDatasetConfig
    VERSION = Version("1.0.0")

    def __init__(self, cache_dir: str | None = None, **options: Any) -> None:
        config = self.BUILDER_CONFIG_CLASS(version=self.VERSION, **options)
        digest = content_digest(self.annotation_files(config), self.image_folders(config), self.reads_images(config))
        if config.data_dir is not None:
            options["data_dir"] = config.data_dir
        super().__init__(cache_dir=cache_dir, hash=digest, **options)

    def describe(self, description: str, features: Features) -> DatasetInfo:
        """What is known of the dataset."""
        about = {"citation": self.CITATION, "license": self.LICENSE, "homepage": self.HOMEPAGE}
        return DatasetInfo(description=description, features=features, **about)

    @classmethod
    def annotation_files(cls, config: AttributeDatasetConfig) -> Sequence[Path]:
        """Existing files whose content decides the table.

        Raises:
            DatasetFilesNotFoundError: a file or folder that must be there is not.
        """
        return ()

    @classmethod
    def image_folders(cls, config: AttributeDatasetConfig) -> Sequence[Path]:
        """Existing folders whose listing decides the table."""
        return ()

    @classmethod
    def reads_images(cls, config: AttributeDatasetConfig) -> bool:
        """Whether the content of images decides the table, so that a replaced image must be seen."""
        return False
