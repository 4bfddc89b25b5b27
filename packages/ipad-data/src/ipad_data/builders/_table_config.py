"""Options of photos of your own, and where their files are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipad_data.builders._photos import PhotoConfig
from ipad_data.errors import DatasetFilesNotFoundError
from ipad_data.regions import BOX_FORMATS
from ipad_data.tables import FoundTable, find_tables


@dataclass
class TableConfig(PhotoConfig):
    """Options of photos of your own.

    Args:
        table: The table, a CSV, JSON lines or Parquet file, relative to ``data_dir``. When None, ``labels.*`` there, else
            ``metadata.*``, else the ``metadata.*`` of folders called ``train``, ``validation`` and ``test``, else the only
            table there; where there is none, folders are named after values.
        images: Folder of the images, relative to ``data_dir``; when None, ``images`` where there is one, else
            ``data_dir`` itself. Image names count from the table's own folder first, then from this one.
        image_column: Column of image names; when None, the first of ``file_name``, ``image``, ``path``, ``filename``,
            ``file``, ``image_path`` that there is.
        attributes: Columns, or folders, that are attributes; all others when None.
        value_separator: Separates several values in one text, e.g. ``|``; when None, a text is one value.
        label_name: Name of the attribute where folders are named after values only.
        schema: ``{attribute: [values]}``, or the path of a JSON file of it; when None, inferred from the table, without
            attributes that have fewer than two values.
        boxes: JSON file ``{photo: {attribute: box}}``, relative to ``data_dir``, where boxes are in a file of their own.
        splits: CSV file, relative to ``data_dir``, of splits to keep, as ``ipad-data splits table DIR --out OUT`` writes it:
            ``file_name``, ``split`` and ``role``. Images that it does not name are divided by their names.
        box_format: ``shares``: boxes are x0, y0, x1, y1 within [0, 1]; ``pixels``: they are in pixels of the photo.

    Raises:
        ValueError: an option outside its choices.
        DatasetFilesNotFoundError: no such folder.
    """

    table: str | None = None
    images: str | None = None
    image_column: str | None = None
    attributes: Sequence[str] | None = None
    value_separator: str | None = None
    label_name: str = "label"
    schema: Mapping[str, Sequence[str]] | str | None = None
    boxes: str | None = None
    splits: str | None = None
    box_format: str = "shares"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box_format not in BOX_FORMATS:
            raise ValueError(f"box_format must be one of {', '.join(BOX_FORMATS)}, got {self.box_format!r}")
        if not self.folder.is_dir():
            raise DatasetFilesNotFoundError.explain(
                "folder of the photos",
                [self.folder],
                "data_dir must be the folder that holds the table and the images.",
            )

    def find_tables(self) -> list[FoundTable]:
        """The tables, none where folders are named after values.

        Raises:
            DatasetFilesNotFoundError: the table that was named is not there; or none was, and more than one could be meant.
        """
        if self.table is None:
            return find_tables(self.folder)
        return [FoundTable(self._existing("table", self.table, Path.is_file))]

    def photo_folders(self) -> list[Path]:
        """Where image names count from, after the folder of their table."""
        if self.images is not None:
            return [self._existing("images", self.images, Path.is_dir)]
        return [folder for folder in (self.folder / "images", self.folder) if folder.is_dir()]

    def folder_of_values(self) -> Path:
        """The outermost folder of folders that are named after values."""
        return self.folder if self.images is None else self._existing("images", self.images, Path.is_dir)

    def schema_path(self) -> Path | None:
        """The JSON file of the schema, if that is how it was given."""
        if not isinstance(self.schema, str | os.PathLike):
            return None
        return self._existing("schema", self.schema, Path.is_file)

    def boxes_path(self) -> Path | None:
        """The JSON file of boxes, if there is one."""
        return None if self.boxes is None else self._existing("boxes", self.boxes, Path.is_file)

    def splits_path(self) -> Path | None:
        """The CSV file of splits to keep, if there is one."""
        return None if self.splits is None else self._existing("splits", self.splits, Path.is_file)

    def _existing(self, option: str, name: str | os.PathLike[str], there: Callable[[Path], bool]) -> Path:
        path = self.folder / Path(name).expanduser()
        if not there(path):
            kind = "folder" if there is Path.is_dir else "file"
            how = f"{option} must name a {kind}, relative to data_dir."
            raise DatasetFilesNotFoundError.explain(f"{kind} {os.fspath(name)!r}", [path], how)
        return path
