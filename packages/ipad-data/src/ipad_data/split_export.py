"""Writing the splits of a dataset as files, so that others can repeat a run, or that images added later move none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipad_data.builders.table import Table
from ipad_data.dataset_trees import REAL_BUILDERS
from ipad_data.split_writing import write_splits
from ipad_data.tables import KEPT_SPLITS, write_kept_splits

EXPORTED = (*sorted(REAL_BUILDERS), "table")


def export_splits(name: str, folder: str | Path, out: str | Path, **options: Any) -> list[Path]:
    """Write the splits that ``load(name, folder, **options)`` would use.

    FashionAI, DARN and DeepFashion get split files (see :func:`~ipad_data.split_writing.write_splits`), photos of your
    own a ``splits.csv`` that ``load("table", folder, splits=...)`` takes.

    Raises:
        ValueError: a dataset without such files, an unknown option, labels that cannot be read.
        DatasetFilesNotFoundError: annotation files, or photos, are missing.
    """
    if name not in EXPORTED:
        raise ValueError(f"name must be one of {', '.join(EXPORTED)}, got {name!r}")
    builder_class = Table if name == "table" else REAL_BUILDERS[name]
    try:
        config = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder), **options)
    except TypeError as error:
        raise ValueError(f"dataset {name!r}: {error}") from None
    builder_class.annotation_files(config)  # names missing folders
    reader = builder_class.without_cache(config)
    if name != "table":
        return write_splits(out, reader.splits(), reader.schema, builder_class.TITLE)
    rows = reader.labelled(reader.found_images())
    names = {str(path): row.name for row, path in rows}
    splits = {
        split: [image._replace(name=names[image.name]) for image in images]
        for split, images in reader.divide(rows).items()
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return [write_kept_splits(out / KEPT_SPLITS, splits)]
