"""Photos that were read, and whether the catalogue knows what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipad_train.catalogue.fields import HASH
from ipad_train.catalogue.photo_files import PhotoFile


@dataclass(frozen=True)
class Decoded:
    """A photo that was read: its content's hash, and its pixels, or the id of the photo that has this content already."""

    photo: PhotoFile
    hash: str
    image: np.ndarray | None
    source: str = ""


class Contents:
    """Which photo of the catalogue has a content, among those whose rows this run does not write over.

    Args:
        known: Rows by id as they were found.
        unread: Ids of the photos that are read anew.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]], unread: set[str]) -> None:
        self._own = {each: known[each][HASH] for each in unread if each in known}
        self._others = {row[HASH]: each for each, row in known.items() if each not in unread}

    def find(self, photo: str, found: str) -> str | None:
        """Id of the photo with this content: the photo itself before any other; None where it is new."""
        return photo if self._own.get(photo) == found else self._others.get(found)


def batches(items: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Lists of up to ``size`` items whose pixels the model is to see, with those that it need not see among them."""
    batch: list[Decoded] = []
    new = 0
    for item in items:
        batch.append(item)
        new += item.image is not None
        if new >= size or len(batch) >= 8 * size:
            yield batch
            batch, new = [], 0
    if batch:
        yield batch
