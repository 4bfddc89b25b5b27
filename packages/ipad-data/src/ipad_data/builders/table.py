"""Photos of your own: with a table of labels, or in folders named after values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from datasets import Version

from ipad_data.builders._photos import PhotoBuilder
from ipad_data.builders._table_config import TableConfig
from ipad_data.errors import ImageDecodeError, LabelFileError
from ipad_data.label_text import read_json
from ipad_data.regions import Regions, as_shares
from ipad_data.schema import AttributeSchema
from ipad_data.stable_splits import Place
from ipad_data.tables import (
    LabelTable,
    PhotoFinder,
    TableRow,
    add_boxes,
    join_tables,
    read_kept_splits,
    read_label_table,
    read_value_folders,
    where_else,
)
from ipad_data.transforms.decode import image_size


class Table(PhotoBuilder):
    """Builder of photos with a CSV, JSON lines or Parquet table, or in folders named after values."""

    BUILDER_CONFIG_CLASS = TableConfig
    VERSION = Version("3.1.0")

    @classmethod
    def annotation_files(cls, config: TableConfig) -> list[Path]:
        """The tables and the files of the schema, of boxes and of splits, as far as they are there."""
        files = [table.path for table in config.find_tables()]
        others = (config.schema_path(), config.boxes_path(), config.splits_path())
        return [*files, *(path for path in others if path is not None)]

    @classmethod
    def image_folders(cls, config: TableConfig) -> list[Path]:
        """The data folder and, where they are elsewhere or behind a link, the folders that image names count from."""
        root = config.folder.resolve()
        others = [folder for folder in config.photo_folders() if not folder.resolve().is_relative_to(root)]
        return [config.folder, *others]

    @classmethod
    def reads_images(cls, config: TableConfig) -> bool:
        """The sizes of photos turn boxes in pixels into shares; in folders, photos of one content are one."""
        return config.box_format == "pixels" or not config.find_tables()

    @cached_property
    def table(self) -> LabelTable:
        """The table as read; where it also gives the schema, without the attributes that have fewer than two values.

        Raises:
            LabelFileError: it breaks its format, or it gives splits while others are to be kept.
        """
        config, found = self.config, self.config.find_tables()
        if found:
            options = config.image_column, config.attributes, config.value_separator
            tables = [read_label_table(path, *options, split) for path, split in found]
            table = tables[0] if len(tables) == 1 else join_tables(config.folder, tables)
        else:
            table = read_value_folders(config.folder_of_values(), config.label_name, config.attributes)
        if config.splits is not None and any(row.split is not None for row in table.rows):
            raise LabelFileError.at(table.path, None, f"gives splits itself; load it without splits={config.splits!r}")
        if (boxes := config.boxes_path()) is not None:
            table = add_boxes(table, boxes)
        return table.without_constants() if config.schema is None else table

    @cached_property
    def schema(self) -> AttributeSchema:
        """The schema given, or the one that the table implies."""
        path = self.config.schema_path()
        if path is not None:
            return _schema_in_file(path)
        return self.table.infer_schema() if self.config.schema is None else AttributeSchema(self.config.schema)

    @cached_property
    def kept_places(self) -> dict[str, Place]:
        """Places of the images that the file of splits names.

        Raises:
            LabelFileError: the file breaks its format, or no image of it is in the table.
        """
        path = self.config.splits_path()
        return {} if path is None else read_kept_splits(path, self.table)

    def locate_images(self) -> tuple[list[tuple[TableRow, Path]], list[TableRow]]:
        """Rows whose image is there, with its path and with boxes in shares of the photo; and the other rows.

        Raises:
            LabelFileError: a name that leads out of the folder or stands for different files, an image that comes twice,
                a box that leaves its photo, or a table that breaks its format.
        """
        found, absent, places = [], [], {}
        for row in self.table.rows:
            try:
                path = self._finder.find(row.folder, row.image)
                if path is None:
                    absent.append(row)
                    continue
                real = os.path.realpath(path)
                if real in places:
                    raise ValueError(f"image {row.image!r} comes twice, first at {places[real]}")
                found.append((self._with_shares(row, path), path))
                places[real] = row.place
            except ImageDecodeError as error:
                raise LabelFileError.at(
                    row.place, None, f"the size of a photo with boxes is not known: {error}"
                ) from None
            except ValueError as error:
                raise LabelFileError.at(row.place, None, str(error)) from None
        return found, absent

    @cached_property
    def _finder(self) -> PhotoFinder:
        return PhotoFinder(self.config.photo_folders())

    def _with_shares(self, row: TableRow, path: Path) -> TableRow:
        if not row.regions.boxes:
            return row
        size = image_size(path) if self.config.box_format == "pixels" else None
        return replace(row, regions=Regions(as_shares(row.regions.boxes, size)))

    def missing_advice(self, absent: Sequence[TableRow]) -> tuple[str, list[Path], str]:
        """About rows whose image is not there: what they are, where the first was looked for, what to do."""
        looked = self._finder.places(absent[0].folder, absent[0].image)
        advice = where_else(self.config.folder, [row.image for row in absent])
        return f"images of the table {self.table.path}", looked, advice


def _schema_in_file(path: Path) -> AttributeSchema:
    values = read_json(path)
    try:
        return AttributeSchema(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise LabelFileError.at(path, None, f"expected an object {{attribute: [values]}}: {error}") from None
