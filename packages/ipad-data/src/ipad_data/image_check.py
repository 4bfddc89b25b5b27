"""Reading many images to find those that cannot be decoded, and copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from ipad_data.errors import ImageDecodeError
from ipad_data.transforms.decode import open_image

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_WORTH_A_PROCESS = 1000
_WINDOW = 256  # items handed out at once for each process: what bounds the memory of items that carry bytes
_CHECK_SIZE = 64


class ExaminedImages(NamedTuple):
    """What reading image files showed.

    Attributes:
        unreadable: Path -> why the file cannot be decoded, of those that cannot.
        digests: Path -> digest of the content, of those that can: copies have the same.
    """

    unreadable: dict[str, str]
    digests: dict[str, str]


def examine_image(path: str) -> tuple[str | None, str | None]:
    """Why an image file cannot be decoded, and a digest of its content; one of the two is None.

    The whole file is read, so a cut-off one is found.
    """
    try:
        open_image(path, _CHECK_SIZE)
        with open(path, "rb") as file:
            return None, hashlib.file_digest(file, "blake2b").hexdigest()
    except (ImageDecodeError, OSError) as error:
        return str(error), None


def examine_images(paths: Sequence[str], workers: int | None = None, progress: bool = False) -> ExaminedImages:
    """Read image files to find those that cannot be decoded, and copies.

    Args:
        paths: Image files.
        workers: Processes; as many as there are cores when None. Few images are read in this process.
        progress: Show a progress bar.
    """
    found = list(map_in_processes(examine_image, paths, workers, "Reading images" if progress else None))
    unreadable = {path: problem for path, (problem, _) in zip(paths, found, strict=True) if problem is not None}
    digests = {path: digest for path, (_, digest) in zip(paths, found, strict=True) if digest is not None}
    return ExaminedImages(unreadable, digests)


def map_in_processes(
    function: Callable[[_Item], _Result],
    items: Collection[_Item],
    workers: int | None = None,
    title: str | None = None,
) -> Iterator[_Result]:
    """Results of a function in the order of the items, from several processes where there are enough items.

    Args:
        function: A module-level function.
        items: Its arguments, fetched as they are needed.
        workers: Processes; as many as there are cores when None.
        title: Title of a progress bar; none is shown when None.

    Raises:
        ValueError: ``workers`` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    workers = min(workers or os.cpu_count() or 1, 1 + len(items) // _WORTH_A_PROCESS)
    if workers == 1:
        yield from tqdm(map(function, items), title, total=len(items), disable=title is None, unit="image")
        return
    bar = tqdm(desc=title, total=len(items), disable=title is None, unit="image")
    with get_context("spawn").Pool(workers) as pool, bar:
        remaining = iter(items)
        while window := list(islice(remaining, workers * _WINDOW)):
            for result in pool.imap(function, window, chunksize=16):
                bar.update()
                yield result
