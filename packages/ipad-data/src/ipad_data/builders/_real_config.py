"""Options that FashionAI, DARN and DeepFashion share, and where their split files are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ipad_data.builders._base import AttributeDatasetConfig
from ipad_data.faults import FAULTS
from ipad_data.label_files import available_splits, split_file_paths

MISSING_IMAGES = ("raise", "skip", "label_only")


@dataclass
class RealConfig(AttributeDatasetConfig):
    """Options that the three datasets share.

    Args:
        protocol: ``published`` reads the field's split files; ``random`` divides the raw annotations 8:1:1, and
            validation and test 1:4 into queries and gallery, stratified by value.
        seed: Of the random splits.
        missing_images: ``raise`` stops where labelled images are missing; ``skip`` leaves out their rows and says so;
            ``label_only`` keeps their rows without an image. Image ids never change.
        images_dir: Where the images are, if not below ``data_dir``.
        faults: ``raise`` stops where the labels contradict themselves: an image in two splits, or query and candidate at
            once, two values of an attribute that can have one, a path that names another attribute, a ``label.csv`` that
            gives another value, a repeated entry. ``warn`` says so and goes on with them as they are.

    Raises:
        ValueError: an option outside its choices.
    """

    protocols: ClassVar[tuple[str, ...]] = ("published", "random")

    protocol: str = "published"
    seed: int = 0
    missing_images: str = "raise"
    images_dir: str | None = None
    faults: str = "raise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images_dir is not None:
            self.images_dir = os.path.abspath(os.path.expanduser(self.images_dir))
        if self.protocol not in self.protocols:
            raise ValueError(f"protocol must be one of {', '.join(self.protocols)}, got {self.protocol!r}")
        if self.missing_images not in MISSING_IMAGES:
            raise ValueError(f"missing_images must be one of {', '.join(MISSING_IMAGES)}, got {self.missing_images!r}")
        if self.faults not in FAULTS:
            raise ValueError(f"faults must be one of {', '.join(FAULTS)}, got {self.faults!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed must be a whole number of 0 or more, got {self.seed!r}")

    @property
    def image_folder(self) -> Path:
        """The folder that images are looked up in."""
        return self.folder if self.images_dir is None else Path(self.images_dir)


@dataclass(frozen=True)
class SplitFolder:
    """The folder of a dataset's split files, and its ``meta.json`` where there is one."""

    folder: Path
    meta: Path | None
    files: list[Path] = field(default_factory=list)


def find_split_folder(folder: Path, dataset: str) -> SplitFolder | None:
    """Split files in the folder itself or in its subfolder called after the dataset; ``meta.json`` there or above."""
    children = sorted(child for child in folder.iterdir() if child.name.lower() == dataset.lower() and child.is_dir())
    for place in (folder, *children):
        splits = available_splits(place)
        if splits:
            meta = next((path for path in (place / "meta.json", place.parent / "meta.json") if path.is_file()), None)
            files = [path for split in splits for path in split_file_paths(place, split).values() if path.is_file()]
            return SplitFolder(place, meta, [*files, *([meta] if meta else [])])
    return None
