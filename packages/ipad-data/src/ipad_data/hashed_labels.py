"""Labels of images with numbers from a hash of their names, which splits by name are decided by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


class HashedLabels:
    """The labels of images, and the numbers that their names give.

    Args:
        names: Distinct names of the images.
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        seed: Another seed, other numbers.
    """

    def __init__(
        self,
        names: Sequence[str],
        attribute_ids: Sequence[Sequence[int]],
        value_ids: Sequence[Sequence[int]],
        seed: int,
    ) -> None:
        self.names, self.seed = names, seed
        self.values = [frozenset(values) for values in value_ids]
        self.attribute_of = {
            value: attribute
            for pair in zip(attribute_ids, value_ids, strict=True)
            for attribute, value in zip(*pair, strict=True)
        }
        self.images_of: dict[int, list[int]] = {}
        for image, values in enumerate(self.values):
            for value in values:
                self.images_of.setdefault(value, []).append(image)

    def number(self, purpose: str, image: int) -> float:
        """Number in [0, 1) that an image's name has for a purpose, the same on every machine."""
        text = f"{self.seed}\0{purpose}\0{self.names[image]}".encode(errors="surrogateescape")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64

    def lowest_first(self, images: Iterable[int], purpose: str) -> list[int]:
        """Images by their numbers for a purpose, the lowest first."""
        return sorted(images, key=lambda image: (self.number(purpose, image), self.names[image]))

    def values_of_attributes(self) -> dict[int, list[int]]:
        """Attribute -> its values that any image has."""
        found: dict[int, list[int]] = {}
        for value, attribute in sorted(self.attribute_of.items()):
            found.setdefault(attribute, []).append(value)
        return found
