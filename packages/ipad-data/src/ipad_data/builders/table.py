"""Photos of your own: a folder of images and a CSV file with one column per attribute."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from datasets import DatasetInfo, SplitGenerator, Version

from ipad_data.builders._base import AttributeDatasetBuilder, make_row, row_features
from ipad_data.builders._table_config import TableConfig
from ipad_data.errors import DatasetFilesNotFoundError, LabelFileError
from ipad_data.label_files import LabelledImage
from ipad_data.label_table import LabelTable, TableRow, read_label_table
from ipad_data.paths import resolve_inside
from ipad_data.roles import ROLES, SPLITS, TRAIN
from ipad_data.schema import AttributeSchema
from ipad_data.splits import held_out_roles, random_splits, unanswered_note


class Table(AttributeDatasetBuilder):
    """Builder of a table of photos.

    A ``split`` column decides the splits, else they are drawn 8:1:1; a ``role`` column decides who is query and who
    gallery in validation and test, else they are drawn 1:4. Both draws are seeded and stratified by value.
    """

    BUILDER_CONFIG_CLASS = TableConfig
    VERSION = Version("1.1.0")

    @classmethod
    def annotation_files(cls, config: TableConfig) -> list[Path]:
        """The table, and the schema's file if there is one."""
        schema = config.schema_path()
        return [config.csv_path(), *([] if schema is None else [schema])]

    @classmethod
    def image_folders(cls, config: TableConfig) -> list[Path]:
        """The folder of the images."""
        return [config.image_folder()]

    @cached_property
    def table(self) -> LabelTable:
        """The table as read."""
        config = self.config
        return read_label_table(config.csv_path(), config.image_column, config.attributes, config.value_separator)

    @cached_property
    def schema(self) -> AttributeSchema:
        """The schema given, or the one that the table implies."""
        path = self.config.schema_path()
        if path is not None:
            try:
                return AttributeSchema.from_json(path.read_text(encoding="utf-8-sig"))
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise LabelFileError.at(path, getattr(error, "lineno", None), f"not JSON text: {error}") from None
        if self.config.schema is not None:
            return AttributeSchema(self.config.schema)
        return self.table.infer_schema()

    def _info(self) -> DatasetInfo:
        return DatasetInfo(description=__doc__, features=row_features(self.schema))

    @classmethod
    def without_cache(cls, config: TableConfig) -> Self:
        """Reader of a folder that touches no cache: for :meth:`locate_images` and :meth:`divide` only."""
        reader = cls.__new__(cls)
        reader.config = config
        return reader

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        splits = self.divide(self._labelled_rows())
        return [
            SplitGenerator(name=split, gen_kwargs={"images": images}) for split, images in splits.items() if images
        ]

    def divide(self, rows: list[tuple[TableRow, Path]]) -> dict[str, list[LabelledImage]]:
        """Splits of the labelled images: those that the table gives, else random ones. Warns about what is too rare.

        Raises:
            LabelFileError: a value that the schema does not have.
        """
        entries = [self._entries(row) for row in rows]
        self._warn_about_rare(entries)
        if rows[0][0].split is None:
            names = [str(path) for _, path in rows]
            pairs = ([[pair[i] for pair in found] for found in entries] for i in (0, 1))
            splits = random_splits(names, *pairs, seed=self.config.seed)
        else:
            splits = self._given_splits(rows, entries)
        if note := unanswered_note(splits, self.schema):
            warnings.warn(f"{self.table.path}: {note}", stacklevel=2)
        return splits

    def _generate_examples(self, images: list[LabelledImage]) -> Iterator[tuple[str, dict[str, Any]]]:
        for image in images:
            entries = zip(image.attribute_ids, image.value_ids, image.roles, strict=True)
            yield image.name, make_row(image.name, image.image_id, entries)

    def locate_images(self) -> tuple[list[tuple[TableRow, Path]], list[TableRow]]:
        """Rows whose image is there, with its path, and the other rows.

        Raises:
            LabelFileError: a name that leads out of the folder, or a table that breaks its format.
        """
        folder, found, absent = self.config.image_folder(), [], []
        for row in self.table.rows:
            try:
                path = resolve_inside(folder, row.image)
            except ValueError as error:
                raise LabelFileError.at(self.table.path, row.line, str(error)) from None
            if path.is_file():
                found.append((row, path))
            else:
                absent.append(row)
        return found, absent

    def _labelled_rows(self) -> list[tuple[TableRow, Path]]:
        """Rows that have a label and an image, with its path."""
        folder, (found, absent) = self.config.image_folder(), self.locate_images()
        if absent:
            listed = "".join(f"\n  {self.table.path}:{row.line}: {row.image}" for row in absent[:5])
            what = f"{len(absent)} of {len(self.table.rows)} images of the table"
            if self.config.missing == "raise":
                how = f"The first of them:{listed}\n  missing='skip' goes on without them."
                raise DatasetFilesNotFoundError.explain(what, [folder], how)
            warnings.warn(f"{what} are not in {folder} and were skipped; the first of them:{listed}", stacklevel=2)
        if not (labelled := [(row, path) for row, path in found if row.values]):
            raise LabelFileError.at(self.table.path, None, "no image has both a file and a label")
        return labelled

    def _entries(self, located: tuple[TableRow, Path]) -> list[tuple[int, int]]:
        row = located[0]
        try:
            return [
                (self.schema.attribute_id(attribute), self.schema.value_id(attribute, name))
                for attribute, names in row.values.items()
                for name in names
            ]
        except ValueError as error:
            raise LabelFileError.at(self.table.path, row.line, str(error)) from None

    def _given_splits(
        self, rows: list[tuple[TableRow, Path]], entries: list[list[tuple[int, int]]]
    ) -> dict[str, list[LabelledImage]]:
        splits = {}
        for split in SPLITS:
            members = [i for i, (row, _) in enumerate(rows) if row.split == split]
            labels = ([[pair[k] for pair in entries[i]] for i in members] for k in (0, 1))
            drawn = held_out_roles(*labels, self.config.seed)
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

    def _warn_about_rare(self, entries: list[list[tuple[int, int]]]) -> None:
        counts = Counter(value for found in entries for _, value in found)
        single = [self.schema.value_names[value] for value, count in sorted(counts.items()) if count == 1]
        if single:
            warnings.warn(
                f"values of a single image, which can be neither learned nor found: {', '.join(single)}", stacklevel=2
            )
        for attribute, first, count in zip(
            self.schema.attributes, self.schema.offsets, self.schema.num_values, strict=True
        ):
            if sum(counts[value] > 0 for value in range(first, first + count)) < 2:
                warnings.warn(f"attribute {attribute!r} has fewer than two values with images", stacklevel=2)
