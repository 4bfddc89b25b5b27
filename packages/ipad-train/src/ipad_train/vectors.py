"""Embeddings of your own in place of images: a file of vectors, found by the names of the photos.

A ``.npy`` file holds ``(N, D)`` numbers, and the text file beside it (``NAME.txt``) the photo of each row, one a line.
A ``.safetensors`` file holds ``embeddings (N, D)`` and in its metadata ``names``, a JSON list. A photo is named by its path,
or by as much of its end as tells it from the others; one that lies in the dataset itself by ``SPLIT/IMAGE_ID``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

import datasets
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ipad_core import AttributeEmbedder
from ipad_core.backbones import Vectors
from ipad_train.config import DataConfig

_TENSOR, _NAMES = "embeddings", "names"


class SplitVectors:
    """Vectors of one split, read as :class:`ipad_train.kept_maps.KeptMaps` are: rows in, maps of one cell out.

    Args:
        array: ``(N, D)`` of all photos.
        index: ``(rows,)`` where in it each row of the split is.
    """

    def __init__(self, array: np.ndarray, index: np.ndarray) -> None:
        self._array, self._index = array, index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> list[torch.Tensor]:
        """``(N, D, 1, 1)`` of rows of the split; a vector has no mirror image, so that ``mirrored`` says nothing."""
        found = self._array[self._index[rows.cpu().numpy()]]
        return [torch.from_numpy(np.asarray(found, dtype=np.float32))[:, :, None, None]]


def reads_vectors(model: AttributeEmbedder) -> bool:
    """Whether the network reads vectors instead of images."""
    return isinstance(model.trunk, Vectors)


def vectors_of(model: AttributeEmbedder, dataset: datasets.Dataset, config: DataConfig) -> SplitVectors | None:
    """The vectors of a split for a network that reads them; None for one that reads images.

    Raises:
        ValueError: ``data.vectors`` is not given, is of another width than the network, or lacks photos of the split; the
            first of them are named.
        FileNotFoundError: there is no such file.
    """
    if not reads_vectors(model):
        return None
    if config.vectors is None:
        raise ValueError("the trunk 'vectors' reads them from a file: give data.vectors=FILE.npy or FILE.safetensors")
    array, places = read_vectors(Path(config.vectors))
    if array.shape[1] != model.trunk.num_features:
        raise ValueError(
            f"data.vectors {config.vectors} has {array.shape[1]} numbers a photo, and the network reads "
            f"{model.trunk.num_features}; set model.options.trunk='{{name: vectors, options: {{dim: {array.shape[1]}}}}}'"
        )
    keys = photo_keys(dataset)
    index = np.array([_find(key, places) for key in keys], dtype=np.int64)
    if absent := [key for key, place in zip(keys, index, strict=True) if place < 0]:
        raise ValueError(
            f"data.vectors {config.vectors} lacks {len(absent)} of {len(keys)} photos of the split {dataset.split}, e.g. "
            f"{', '.join(absent[:3])}"
        )
    return SplitVectors(array, index)


def photo_keys(dataset: datasets.Dataset) -> list[str]:
    """What each row's photo is called: its path, or ``SPLIT/IMAGE_ID`` where it lies in the dataset itself."""
    rows = dataset.select_columns(["image", "image_id"]).with_format(None)
    return [(row["image"] or {}).get("path") or f"{dataset.split}/{row['image_id']}" for row in rows]


@lru_cache(maxsize=4)
def read_vectors(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """``(N, D)`` numbers of a file, memory-mapped where it is ``.npy``, and the row of each photo by its name.

    Raises:
        FileNotFoundError: no such file, or no text file with names beside a ``.npy``.
        ValueError: another kind of file, another shape, another number of names, or a name twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data.vectors: there is no file {path}")
    if path.suffix == ".npy":
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            raise FileNotFoundError(f"data.vectors {path} needs the names of its photos, one a line, in {beside}")
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ValueError(f"data.vectors {path} cannot be read: {error}") from None
        names = beside.read_text(encoding="utf-8-sig").splitlines()
    elif path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="np") as file:
                array, names = file.get_tensor(_TENSOR), json.loads((file.metadata() or {}).get(_NAMES, "[]"))
        except (SafetensorError, json.JSONDecodeError) as error:
            raise ValueError(
                f"data.vectors {path} must hold {_TENSOR!r} and the metadata {_NAMES!r}: {error}"
            ) from None
    else:
        raise ValueError(f"data.vectors must be .npy or .safetensors, got {path}")
    if array.ndim != 2 or array.dtype.kind != "f" or len(array) != len(names):
        raise ValueError(
            f"data.vectors {path} must be (N, D) floats with a name each, got {array.dtype} {array.shape} and {len(names)} "
            "names"
        )
    if twice := [name for name in names if names.count(name) > 1][:1] if len(set(names)) < len(names) else []:
        raise ValueError(f"data.vectors {path} names a photo twice: {twice[0]}")
    return array, {PurePath(name).as_posix(): row for row, name in enumerate(names)}


def write_vectors(path: Path, array: np.ndarray, names: Sequence[str]) -> None:
    """Write a file that :func:`read_vectors` reads.

    Raises:
        ValueError: neither ``.npy`` nor ``.safetensors``.
    """
    if path.suffix == ".npy":
        np.save(path, array)
        path.with_suffix(".txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    elif path.suffix == ".safetensors":
        save_file({_TENSOR: array}, path, metadata={_NAMES: json.dumps(list(names))})
    else:
        raise ValueError(f"vectors are written to .npy or .safetensors, got {path}")


def _find(key: str, places: dict[str, int]) -> int:
    """Row of a photo by its path or the longest end of it that is known; -1 where there is none."""
    parts = PurePath(key).parts
    ends = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((places[end] for end in ends if end in places), -1)
