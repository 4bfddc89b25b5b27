"""What builders share that read photos and their labels as a table: missing photos, splits, boxes."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from datasets import DatasetInfo, SplitGenerator

from ipad_data.builders._base import AttributeDatasetBuilder, AttributeDatasetConfig, make_row, row_features
from ipad_data.errors import DatasetFilesNotFoundError, DataWarning, LabelFileError
from ipad_data.label_files import LabelledImage
from ipad_data.regions import Regions
from ipad_data.roles import ROLES, SPLITS, TRAIN
from ipad_data.schema import AttributeSchema
from ipad_data.splits import unanswered_note
from ipad_data.stable_roles import stable_roles
from ipad_data.stable_splits import Place, stable_splits
from ipad_data.tables import LabelTable, TableRow

MISSING = ("raise", "skip")
_NAMED = 5  # how many of a list are named in messages


@dataclass
class PhotoConfig(AttributeDatasetConfig):
    """Options of photos with a table of labels.

    Args:
        missing: ``raise`` stops where photos are missing; ``skip`` goes on without them and warns with their number.
        seed: Another seed, other splits.
    """

    missing: str = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.missing not in MISSING:
            raise ValueError(f"missing must be one of {', '.join(MISSING)}, got {self.missing!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed must be a whole number of 0 or more, got {self.seed!r}")


class PhotoBuilder(AttributeDatasetBuilder):
    """Base of builders whose labels are a :class:`~ipad_data.tables.LabelTable`.

    Subclasses define ``table``, ``schema`` and ``locate_images``. A split that the table gives decides, else images are
    divided 8:1:1; a role that it gives decides who is query and who gallery in validation and test, else they are
    divided 1:4. Both by the seed and the image's name (see :mod:`~ipad_data.stable_splits`).

    Attributes:
        HAS_SUBJECT: Whether rows say where the person is (see :func:`~ipad_data.builders._base.row_features`).
        PHOTOS: Folder of the images below the data folder; empty for the data folder itself.
        HOW_TO_MEND: What to do where the labels cannot be read.
    """

    HAS_SUBJECT: ClassVar[bool] = False
    PHOTOS: ClassVar[str] = ""
    HOW_TO_MEND: ClassVar[str] = "Mend what is said above, and run this again."

    table: LabelTable
    schema: AttributeSchema

    @property
    def has_boxes(self) -> bool:
        """Whether rows have boxes."""
        return self.table.has_boxes

    @abstractmethod
    def locate_images(self) -> tuple[list[tuple[TableRow, Path]], list[TableRow]]:
        """Rows whose image is there, with its path and with boxes in shares of the photo; and the other rows."""

    @abstractmethod
    def missing_advice(self, absent: Sequence[TableRow]) -> tuple[str, list[Path], str]:
        """About rows whose image is not there: what they are, where the first was looked for, what to do."""

    @classmethod
    def without_cache(cls, config: PhotoConfig) -> Self:
        """Reader of a folder that touches no cache: for :meth:`locate_images` and :meth:`divide` only."""
        reader = cls.__new__(cls)
        reader.config = config
        return reader

    def _info(self) -> DatasetInfo:
        features = row_features(self.schema, self.has_boxes, self.HAS_SUBJECT)
        return self.describe(type(self).__doc__, features)

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        labelled = self.labelled(self.found_images())
        regions = {str(path): row.regions for row, path in labelled}
        return [
            SplitGenerator(split, gen_kwargs={"images": [(image, regions[image.name]) for image in images]})
            for split, images in self.divide(labelled).items()
            if images
        ]

    def found_images(self) -> list[tuple[TableRow, Path]]:
        """Rows whose image is there, with its path; those whose image is not are answered by the option ``missing``.

        Raises:
            DatasetFilesNotFoundError: images are missing, and ``missing`` is ``raise``, or all are.
        """
        found, absent = self.locate_images()
        if absent:
            self._answer_missing(found, absent)
        return found

    def _answer_missing(self, found: Sequence[tuple[TableRow, Path]], absent: Sequence[TableRow]) -> None:
        what, looked, how = self.missing_advice(absent)
        what = f"{len(absent)} of {len(found) + len(absent)} {what}"
        listed = "The first of them:" + "".join(f"\n  {row.place}: {row.image}" for row in absent[:_NAMED])
        if self.config.missing == "raise" or not found:
            go_on = " missing='skip' goes on without them." if found else ""
            raise DatasetFilesNotFoundError.explain(what, looked, f"{listed}\n  {how}{go_on}")
        warnings.warn(f"{what} are not there and were skipped. {listed}", DataWarning, stacklevel=3)

    def labelled(self, rows: Sequence[tuple[TableRow, Path]]) -> list[tuple[TableRow, Path]]:
        """The rows that have a label. Warns with the number of those that have none.

        Raises:
            LabelFileError: none has.
        """
        if bare := [row.image for row, _ in rows if not row.values]:
            more = ", ..." if len(bare) > _NAMED else ""
            note = (
                f"{len(bare)} of {len(rows)} images have no label and are left out: {', '.join(bare[:_NAMED])}{more}"
            )
            warnings.warn(f"{self.table.path}: {note}", DataWarning, stacklevel=2)
        if len(bare) == len(rows):
            raise LabelFileError.at(self.table.path, None, "no image has both a file and a label")
        return [(row, path) for row, path in rows if row.values]

    @property
    def kept_places(self) -> dict[str, Place]:
        """Places that images, by their names in the table, had before and keep."""
        return {}

    def divide(self, rows: Sequence[tuple[TableRow, Path]]) -> dict[str, list[LabelledImage]]:
        """Splits of images: those that the table gives, else by their names. Warns about what is too rare.

        Raises:
            LabelFileError: a value that the schema does not have.
        """
        entries = [self._entries(row) for row, _ in rows]
        for note in self._rarity_notes(entries):
            warnings.warn(note, DataWarning, stacklevel=2)
        if rows[0][0].split is None:
            splits = self.draw_splits(rows, *([[pair[i] for pair in found] for found in entries] for i in (0, 1)))
        else:
            splits = self._given_splits(rows, entries)
            if empty := [split for split, images in splits.items() if not images]:
                note = "no images for the given split of %s; splits are drawn where none are given"
                warnings.warn(f"{self.table.path}: {note % ' and '.join(empty)}", DataWarning, stacklevel=2)
        if note := unanswered_note(splits, self.schema):
            warnings.warn(f"{self.table.path}: {note}", DataWarning, stacklevel=2)
        return splits

    def draw_splits(
        self,
        rows: Sequence[tuple[TableRow, Path]],
        attribute_ids: Sequence[Sequence[int]],
        value_ids: Sequence[Sequence[int]],
    ) -> dict[str, list[LabelledImage]]:
        """Splits of images that the table gives none of; images are named by their paths."""
        paths = {row.name: str(path) for row, path in rows}
        splits = stable_splits(list(paths), attribute_ids, value_ids, self.config.seed, self.kept_places)
        return {
            split: [image._replace(name=paths[image.name]) for image in images] for split, images in splits.items()
        }

    def _generate_examples(
        self, images: Sequence[tuple[LabelledImage, Regions]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for image, regions in images:
            row = make_row(
                image.name, image.image_id, zip(image.attribute_ids, image.value_ids, image.roles, strict=True)
            )
            attributes = [self.schema.attributes[attribute_id] for attribute_id in image.attribute_ids]
            if self.has_boxes:
                row["boxes"] = [regions.boxes.get(attribute, []) for attribute in attributes]
            if self.HAS_SUBJECT:
                row["subject"] = regions.subject or []
                row["box_chance"] = [regions.chance.get(attribute, 0.0) for attribute in attributes]
            yield image.name, row

    def _entries(self, row: TableRow) -> list[tuple[int, int]]:
        try:
            return [
                (self.schema.attribute_id(attribute), self.schema.value_id(attribute, name))
                for attribute, names in row.values.items()
                for name in names
            ]
        except ValueError as error:
            raise LabelFileError.at(row.place, None, str(error)) from None

    def _given_splits(
        self, rows: Sequence[tuple[TableRow, Path]], entries: Sequence[Sequence[tuple[int, int]]]
    ) -> dict[str, list[LabelledImage]]:
        splits = {}
        for split in SPLITS:
            members = [i for i, (row, _) in enumerate(rows) if row.split == split]
            labels = ([[pair[k] for pair in entries[i]] for i in members] for k in (0, 1))
            drawn = stable_roles([rows[i][0].name for i in members], *labels, self.config.seed)
            splits[split] = []
            for image_id, (i, role) in enumerate(zip(members, drawn, strict=True)):
                row, path = rows[i]
                if split == "train":
                    role = TRAIN
                elif row.role is not None:
                    role = ROLES.index(row.role)
                attribute_ids, value_ids = zip(*entries[i], strict=True)
                splits[split].append(
                    LabelledImage(str(path), image_id, attribute_ids, value_ids, (role,) * len(value_ids))
                )
        return splits

    def _rarity_notes(self, entries: Sequence[Sequence[tuple[int, int]]]) -> Iterator[str]:
        """What is too rare to be learned or found, and what looks as if it were no attribute."""
        for attribute, value in self.table.left_out.items():
            found = f"the single value {value!r}" if value else "no value"
            yield f"attribute {attribute!r} has {found}, and is left out of training and evaluation"
        for attribute, number in self.table.identifiers().items():
            yield (
                f"column {attribute!r} has {number} values, nearly one for each image, as an id or a description has; "
                "attributes=[...] names the columns that are attributes"
            )
        counts = Counter(value for found in entries for _, value in found)
        if single := [self.schema.value_names[value] for value, count in sorted(counts.items()) if count == 1]:
            more = f" and {len(single) - _NAMED} more" if len(single) > _NAMED else ""
            named = ", ".join(single[:_NAMED])
            yield f"values of a single image, which can be neither learned nor found: {named}{more}"
        sizes = zip(self.schema.attributes, self.schema.offsets, self.schema.num_values, strict=True)
        for attribute, first, size in sizes:
            if sum(counts[value] > 0 for value in range(first, first + size)) < 2:
                yield f"attribute {attribute!r} has fewer than two values with images"
