"""``load``: a dataset by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
from datasets import BuilderConfig, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.exceptions import DatasetGenerationError

from ipad_data.builders import DATASETS
from ipad_data.builders._base import AttributeDatasetBuilder
from ipad_data.errors import DataWarning
from ipad_data.prepared import check_split, is_prepared, load_prepared, read_manifest

_NOTES = "notes.json"


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
        split: ``train``, ``validation`` or ``test``, or a slice as ``datasets`` writes it: ``train[:10%]``,
            ``train[100:200]+test``; all splits when None.
        cache_dir: Where built tables are kept, outside of the data; the cache of ``datasets`` when None.
        num_proc: Processes that build; one when None.
        streaming: Read a prepared folder shard by shard, without building a table.
        options: Options of that dataset, see its builder's configuration class. For a prepared folder they are those
            that it was prepared with, or left out.

    Raises:
        ValueError: unknown name, split or option; a cache inside the folder of the data; an annotation that cannot be read
            (with file and line); a folder that was prepared from another dataset or with other options; streaming of
            something that is not prepared.
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
        return _described(load_prepared(data_dir, split, streaming, cache_dir, num_proc), builder_class)
    if streaming:
        raise ValueError(
            f"streaming must be False for originals, got data_dir {data_dir!r}; "
            f"`ipad-data prepare {name} DIR --out OUT` makes a folder that streams"
        )
    if data_dir is not None:
        options["data_dir"] = str(data_dir)
    _check_cache(cache_dir, [folder for folder in (data_dir, options.get("images_dir")) if folder is not None])
    builder = builder_class(cache_dir=None if cache_dir is None else str(cache_dir), **options)
    for note in _build(builder, num_proc):
        warnings.warn(note, DataWarning, stacklevel=2)
    check_split(split, builder.info.splits)
    return builder.as_dataset(split=split)


def _build(builder: AttributeDatasetBuilder, num_proc: int | None) -> list[str]:
    """Build the table where it is not cached; returns what is to be said of the data, which is cached beside it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            builder.download_and_prepare(num_proc=num_proc)
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, (ValueError, OSError)):
                raise error.__cause__ from None
            raise
    for warning in caught:
        if not issubclass(warning.category, DataWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    notes = [str(warning.message) for warning in caught if issubclass(warning.category, DataWarning)]
    path = Path(builder.cache_dir) / _NOTES
    if notes or not path.is_file():
        path.write_text(json.dumps(notes), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _described(loaded: Any, builder_class: type[AttributeDatasetBuilder]) -> Any:
    """Prepared rows with the licence and the citation of the originals."""
    for rows in loaded.values() if isinstance(loaded, dict) else [loaded]:
        rows.info.license, rows.info.citation = builder_class.LICENSE, builder_class.CITATION
        rows.info.homepage = builder_class.HOMEPAGE
    return loaded


def _check_cache(cache_dir: str | PathLike[str] | None, folders: Sequence[str | PathLike[str]]) -> None:
    """The listing of the data decides whether a cached table still holds; what is cached must not change it."""
    cache = Path(cache_dir or datasets.config.HF_DATASETS_CACHE).expanduser().resolve()
    for folder in folders:
        if cache.is_relative_to(Path(folder).expanduser().resolve()):
            raise ValueError(
                f"cache_dir must be outside of the data in {folder}, got {cache}; it would be taken for data"
            )


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
