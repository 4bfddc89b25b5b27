"""What FashionAI, DARN and DeepFashion share: protocols, missing images, coverage."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from datasets import DatasetInfo, SplitGenerator

from ipad_data.builders._base import AttributeDatasetBuilder, row_features
from ipad_data.builders._published import read_published
from ipad_data.builders._real_config import RealConfig, SplitFolder, find_split_folder
from ipad_data.errors import DatasetFilesNotFoundError, DataWarning, LabelFileError
from ipad_data.faults import Faults
from ipad_data.image_tree import ImageTree
from ipad_data.label_files import LabelledImage, RawLabels, split_file_paths
from ipad_data.meta_file import differences, read_meta
from ipad_data.schema import AttributeSchema
from ipad_data.split_checks import check_files, check_splits
from ipad_data.splits import random_splits, unanswered_note


class SplitCoverage(NamedTuple):
    """How many of a split's labelled images are there; ``missing`` holds the names of the others."""

    labelled: int
    found: int
    missing: list[str]

    def __str__(self) -> str:
        share = 100 * self.found / max(self.labelled, 1)
        return f"{self.found} of {self.labelled} images found ({share:.1f} %)"


class RealDatasetBuilder(AttributeDatasetBuilder):
    """Base of the three builders. Subclasses say what the raw files are and how they are read.

    Attributes:
        TITLE: Name as people write it, and key in ``meta.json``.
        ANCHOR: Folder that image names count from (see :class:`~ipad_data.image_tree.ImageTree`).
        SCHEMA: Attributes and values where no file tells them.
        HOW_TO_GET: What to do when files are missing.
        EXCLUSIVE: Whether an image has one value of an attribute at most.
        KNOWN_COUNTS: About how many images each published split has, where that is known.
    """

    TITLE: ClassVar[str]
    ANCHOR: ClassVar[str]
    SCHEMA: ClassVar[AttributeSchema]
    HOW_TO_GET: ClassVar[str]
    EXCLUSIVE: ClassVar[bool] = False
    KNOWN_COUNTS: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def without_cache(cls, config: RealConfig) -> Self:
        """Reader of a folder's labels that touches no cache: for :meth:`splits` and :meth:`locate_images` only."""
        reader = cls.__new__(cls)
        reader.config = config
        return reader

    @classmethod
    @abstractmethod
    def raw_files(cls, config: RealConfig) -> list[Path]:
        """Raw annotation files that are there."""

    @abstractmethod
    def read_raw(self) -> RawLabels:
        """Labels of the raw annotation files. Raises DatasetFilesNotFoundError where there are none."""

    @classmethod
    def raw_schema(cls, config: RealConfig) -> AttributeSchema:
        """Schema of the raw annotations."""
        return cls.SCHEMA

    @staticmethod
    def attribute_of_path(name: str) -> str | None:
        """Attribute that an image's path names; None where paths name none."""
        return None

    def compare_with_raw(self, splits: Mapping[str, Sequence[LabelledImage]], faults: Faults) -> None:
        """Note where published splits contradict raw annotations that lie beside them."""

    def adapt_splits(self, splits: dict[str, list[LabelledImage]]) -> dict[str, list[LabelledImage]]:
        """Last change of the splits before their images are looked up."""
        return splits

    @classmethod
    def annotation_files(cls, config: RealConfig) -> Sequence[Path]:
        for folder in (config.folder, config.image_folder):
            if not folder.is_dir():
                raise DatasetFilesNotFoundError.explain(f"folder of {cls.TITLE}", [folder], cls.HOW_TO_GET)
        found = find_split_folder(config.folder, cls.TITLE)
        files = {path.resolve(): path for path in (*(found.files if found else ()), *cls.raw_files(config))}
        return list(files.values())

    @classmethod
    def image_folders(cls, config: RealConfig) -> Sequence[Path]:
        return (config.image_folder,)

    @property
    def schema(self) -> AttributeSchema:
        """Attributes and values of the chosen protocol."""
        return self.find_schema(self.config)

    @classmethod
    def find_schema(cls, config: RealConfig) -> AttributeSchema:
        """Schema from ``meta.json`` (published protocol) or from the raw annotations."""
        found = find_split_folder(config.folder, cls.TITLE)
        if config.protocol != "published":
            return cls.raw_schema(config)
        return read_meta(found.meta, cls.TITLE, names=cls.SCHEMA) if found and found.meta else cls.SCHEMA

    def _info(self) -> DatasetInfo:
        return self.describe(f"{self.TITLE}, {self.config.protocol} splits", row_features(self.schema))

    def splits(self) -> dict[str, list[LabelledImage]]:
        """Labelled images of every split, by the labels alone: the same whatever images are there.

        Raises:
            DatasetFilesNotFoundError: annotation files are missing.
            LabelFileError: an annotation file breaks its format, or the labels contradict themselves.
        """
        faults = Faults(self.config.faults)
        found = self._split_folder() if self.config.protocol == "published" else None
        if found is None:
            raw = self.read_raw()
            if raw.unlabelled:
                count = len(raw.names) + raw.unlabelled
                self._warn(f"{raw.unlabelled} of {count} images have no label and are left out")
            splits = self.divide(raw)
        else:
            own = self.schema.attributes == self.SCHEMA.attributes  # else these are other labels in the same layout
            splits = read_published(found, self.TITLE, self.schema, faults, self.KNOWN_COUNTS if own else {})
            if other := differences(self.schema, self.SCHEMA):
                warnings.warn(
                    f"{found.meta}: not as {self.TITLE} is known: {'; '.join(other)}", DataWarning, stacklevel=2
                )
            self.compare_with_raw(splits, faults)

        def place(split: str, image: LabelledImage) -> str:
            if found is None:
                return f"{image.name} of {split}"
            return f"{split_file_paths(found.folder, split)['filenames'].name}:{image.image_id + 1} {image.name}"

        check_splits(splits, self.schema, faults, self.EXCLUSIVE, self.attribute_of_path, place)
        faults.settle(str(found.folder if found else self.config.folder))
        return self.adapt_splits(splits)

    def _split_folder(self) -> SplitFolder:
        found = find_split_folder(self.config.folder, self.TITLE)
        if found is None:
            looked = [self.config.folder / "filenames_train.txt", self.config.folder / self.TITLE]
            raise DatasetFilesNotFoundError.explain(
                f"split files of {self.TITLE}",
                looked,
                "ASEN gives them out (github.com/Maryeon/asen, meta_data.tar.gz). From raw labels alone, load with "
                f"protocol='random'. {self.HOW_TO_GET}",
            )
        return found

    def divide(self, raw: RawLabels) -> dict[str, list[LabelledImage]]:
        """Random splits of raw labels."""
        return random_splits(raw.names, raw.attribute_ids, raw.value_ids, self.config.seed)

    def locate_images(
        self, splits: Mapping[str, Sequence[LabelledImage]]
    ) -> tuple[dict[str, list[str | None]], dict[str, SplitCoverage]]:
        """Path of each image (``None`` where missing), and how many are there, for each split.

        Raises:
            LabelFileError: a name leads through a link out of the folder, or a file has two names and labels.
        """
        tree = ImageTree(self.config.image_folder, self.ANCHOR)
        paths: dict[str, list[str | None]] = {}
        for split, images in splits.items():
            try:
                paths[split] = [tree.find(image.name) for image in images]
            except ValueError as error:
                raise LabelFileError(str(error)) from None
        faults = Faults(self.config.faults)
        check_files(splits, paths, faults)
        faults.settle(str(self.config.image_folder))
        return paths, {split: _coverage(images, paths[split]) for split, images in splits.items()}

    def coverage(self) -> dict[str, SplitCoverage]:
        """How many of the labelled images of each split are there. Builds nothing."""
        return self.locate_images(self.splits())[1]

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        splits = self.splits()
        paths, coverage = self.locate_images(splits)
        self._answer_missing(coverage)
        keep_missing = self.config.missing_images == "label_only"
        rows = {
            split: [(image, path) for image, path in zip(images, paths[split], strict=True) if path or keep_missing]
            for split, images in splits.items()
        }
        if empty := [split for split in rows if not rows[split]]:
            self._warn(f"no rows for the {' and '.join(empty)} split, which is left out")
        if note := unanswered_note({split: [image for image, _ in kept] for split, kept in rows.items()}, self.schema):
            self._warn(note)
        return [SplitGenerator(name=split, gen_kwargs={"rows": rows[split]}) for split in rows if rows[split]]

    def _answer_missing(self, coverage: Mapping[str, SplitCoverage]) -> None:
        text = "; ".join(f"{split}: {counts}" for split, counts in coverage.items())
        self.info.description = f"{self.TITLE}, {self.config.protocol} splits. {text}"
        missing = [name for counts in coverage.values() for name in counts.missing]
        found = sum(counts.found for counts in coverage.values())
        policy = self.config.missing_images
        if missing and (policy == "raise" or (policy == "skip" and not found)):
            raise DatasetFilesNotFoundError.explain(
                f"{len(missing)} labelled images of {self.TITLE} ({text}), e.g. {', '.join(missing[:3])}",
                [self.config.image_folder],
                "Unpack the images there or name their folder with images_dir=; to go on without them load with "
                "missing_images='skip' (leaves out their rows) or 'label_only' (rows without images). "
                f"{self.HOW_TO_GET}",
            )
        if missing and policy == "skip":
            self._warn(f"rows of {len(missing)} missing images are left out ({text})")

    def _warn(self, note: str) -> None:
        warnings.warn(f"{self.config.folder}: {note}", DataWarning, stacklevel=2)

    def _generate_examples(self, rows: list[tuple[LabelledImage, str | None]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (image, path) in enumerate(rows):
            yield (
                number,
                {
                    "image": None if path is None else self.stored_image(image, path),
                    "image_id": image.image_id,
                    "attribute_ids": list(image.attribute_ids),
                    "value_ids": list(image.value_ids),
                    "roles": list(image.roles),
                },
            )

    def stored_image(self, image: LabelledImage, path: str) -> dict[str, Any]:
        """What the ``image`` column holds: the path."""
        return {"path": path, "bytes": None}


def _coverage(images: Sequence[LabelledImage], paths: Sequence[str | None]) -> SplitCoverage:
    missing = [image.name for image, path in zip(images, paths, strict=True) if path is None]
    return SplitCoverage(len(images), len(images) - len(missing), missing)
