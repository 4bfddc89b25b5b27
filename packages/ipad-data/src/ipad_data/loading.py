"""``load``: a dataset by name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from typing import Any

from datasets import BuilderConfig, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.exceptions import DatasetGenerationError

from ipad_data.builders import DATASETS
from ipad_data.builders._base import AttributeDatasetBuilder
from ipad_data.prepared import is_prepared, load_prepared, read_manifest


def list_datasets() -> list[str]:
    """Names that :func:`load` takes."""
    return sorted(DATASETS)


def load(
    name: str,
    data_dir: str | PathLike[str] | None = None,
    split: str | None = None,
    *,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    streaming: bool = False,
    **options: Any,
) -> DatasetDict | Dataset | IterableDatasetDict | IterableDataset:
    """Build a dataset, or take it from the cache when neither options, annotations nor image listing changed.

    A folder that ``ipad-data prepare`` made, or the URL of its copy, may stand in for the originals.

    One row is one image: ``image`` (path or bytes, not decoded), ``image_id``, and the parallel lists
    ``attribute_ids``, ``value_ids`` (flat) and ``roles``; ``AttributeSchema.from_features(dataset.features)`` has the
    names.

    Args:
        name: One of :func:`list_datasets`.
        data_dir: Folder of the dataset's files, or a prepared folder. The rendered dataset needs none.
        split: ``train``, ``validation`` or ``test``; all of them when None.
        cache_dir: Where built tables are kept; the cache of ``datasets`` when None.
        num_proc: Processes that build; one when None.
        streaming: Read a prepared folder shard by shard, without building a table.
        options: Options of that dataset, see its builder's configuration class. For a prepared folder they are those
            that it was prepared with, or left out.

    Raises:
        ValueError: unknown name, split or option; an annotation that cannot be read (with file and line); a folder that
            was prepared from another dataset or with other options; streaming of something that is not prepared.
        DatasetFilesNotFoundError: files are missing.
        ImportError: the dataset needs an extra that is not installed.

    Example:
        >>> train = load("rendered", split="train", num_images=10)
        >>> train.num_rows
        8
    """
    builder_class = _builder_class(name)
    defaults = _check_options(name, builder_class.BUILDER_CONFIG_CLASS, options)
    if data_dir is not None and is_prepared(data_dir):
        read_manifest(data_dir).check(name, options, defaults, str(data_dir))
        return load_prepared(data_dir, split, streaming, cache_dir, num_proc)
    if streaming:
        raise ValueError(
            f"streaming must be False for originals, got data_dir {data_dir!r}; "
            f"`ipad-data prepare {name} DIR --out OUT` makes a folder that streams"
        )
    if data_dir is not None:
        options["data_dir"] = str(data_dir)
    builder = builder_class(cache_dir=None if cache_dir is None else str(cache_dir), **options)
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise error.__cause__ from None
        raise
    if split is not None and split not in builder.info.splits:
        raise ValueError(f"split must be one of {', '.join(builder.info.splits)}, got {split!r}")
    return builder.as_dataset(split=split)


def _builder_class(name: str) -> type[AttributeDatasetBuilder]:
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS) or list_datasets()
        raise ValueError(f"unknown dataset {name!r}; did you mean one of: {', '.join(near)}?")
    module, _, class_name = DATASETS[name].partition(":")
    return getattr(import_module(module), class_name)


def _check_options(name: str, config_class: type[BuilderConfig], options: dict[str, Any]) -> dict[str, Any]:
    """Defaults of the dataset's options, all of the given ones being among them."""
    reserved = {field.name for field in fields(BuilderConfig)}
    own = [field for field in fields(config_class) if field.name not in reserved]
    defaults = {field.name: None if field.default is MISSING else field.default for field in own}
    for option in options:
        if option not in defaults:
            near = get_close_matches(option, defaults) or sorted(defaults)
            raise ValueError(f"dataset {name!r} has no option {option!r}; did you mean one of: {', '.join(near)}?")
    return defaults
