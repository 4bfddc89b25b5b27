"""Writing the splits of a dataset as split files, so that others can repeat a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipad_data.dataset_trees import REAL_BUILDERS
from ipad_data.split_writing import write_splits


def export_splits(name: str, folder: str | Path, out: str | Path, **options: Any) -> list[Path]:
    """Write the splits that ``load(name, folder, **options)`` would use as split files; see :func:`write_splits`.

    Raises:
        ValueError: not a dataset with split files, an unknown option.
        DatasetFilesNotFoundError: annotation files are missing.
    """
    if name not in REAL_BUILDERS:
        raise ValueError(f"name must be one of {', '.join(sorted(REAL_BUILDERS))}, got {name!r}")
    builder_class = REAL_BUILDERS[name]
    try:
        config = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder), **options)
    except TypeError as error:
        raise ValueError(f"dataset {name!r}: {error}") from None
    builder_class.annotation_files(config)  # names missing folders
    reader = builder_class.without_cache(config)
    return write_splits(out, reader.splits(), reader.schema, builder_class.TITLE)
