"""Options of a table of photos, and where its files are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ipad_data.builders._base import AttributeDatasetConfig
from ipad_data.errors import DatasetFilesNotFoundError

_MISSING = ("raise", "skip")


@dataclass
class TableConfig(AttributeDatasetConfig):
    """Options of a table of photos.

    Args:
        csv: The table, relative to ``data_dir``; when None, ``labels.csv`` or the only CSV file there.
        images: Folder of the images, relative to ``data_dir``; when None, ``images`` where there is one, else
            ``data_dir`` itself.
        image_column: Column of image names; when None, the first of ``file_name``, ``image``, ``path``, ``filename``,
            ``file``, ``image_path`` that there is.
        attributes: Columns that are attributes; all other columns when None.
        value_separator: Separates several values in one field, e.g. ``|``; when None, a field is one value.
        schema: ``{attribute: [values]}``, or the path of a JSON file of it; inferred from the table when None.
        missing: ``raise`` or ``skip`` images that the table names but the folder lacks (skipping warns with a count).
        seed: Seed of the splits, where the table has no ``split`` column.
    """

    csv: str | None = None
    images: str | None = None
    image_column: str | None = None
    attributes: Sequence[str] | None = None
    value_separator: str | None = None
    schema: Mapping[str, Sequence[str]] | str | None = None
    missing: str = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.missing not in _MISSING:
            raise ValueError(f"missing must be one of {', '.join(_MISSING)}, got {self.missing!r}")
        if not self.folder.is_dir():
            raise DatasetFilesNotFoundError.explain(
                "folder of the table", [self.folder], "data_dir must be the folder that holds the CSV and the images."
            )

    def csv_path(self) -> Path:
        """The table.

        Raises:
            DatasetFilesNotFoundError: it is not there; or none was named, and there is none or more than one.
        """
        if self.csv is not None:
            return self._existing(self.csv, "table", "csv must name a file, relative to data_dir.")
        found = sorted(path for path in self.folder.iterdir() if path.suffix.lower() == ".csv")
        preferred = [path for path in found if path.name == "labels.csv"] or found
        if len(preferred) != 1:
            what = f"a single CSV file ({len(found)} there: {', '.join(path.name for path in found) or 'none'})"
            raise DatasetFilesNotFoundError.explain(what, [self.folder], "Name the table with csv=...")
        return preferred[0]

    def image_folder(self) -> Path:
        """The folder of the images."""
        if self.images is not None:
            return self._existing(self.images, "folder of images", "images must name a folder, relative to data_dir.")
        default = self.folder / "images"
        return default if default.is_dir() else self.folder

    def schema_path(self) -> Path | None:
        """The JSON file of the schema, if that is how it was given."""
        if not isinstance(self.schema, str | os.PathLike):
            return None
        return self._existing(self.schema, "schema", "schema must name a JSON file, relative to data_dir.")

    def _existing(self, name: str | os.PathLike[str], what: str, how: str) -> Path:
        path = self.folder / Path(name).expanduser()
        if not path.exists():
            raise DatasetFilesNotFoundError.explain(f"{what} {os.fspath(name)!r}", [path], how)
        return path
