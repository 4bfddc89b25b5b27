"""Splits by name: each image's place follows from a hash of its own name, so that one image more moves no other.

A draw over all images at once divides every value exactly, but shuffles everything when an image is added. Here each
image has a fixed number in [0, 1) for each decision, and 8:1:1 and 1:4 hold on average. Only where values are so rare
that a split could not be used are some of their images moved, those first whose numbers are lowest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ipad_data.hashed_labels import HashedLabels
from ipad_data.label_files import LabelledImage
from ipad_data.roles import SPLITS, TRAIN
from ipad_data.stable_roles import stable_roles

_HELD_OUT = 0.1  # share of validation, and of test
_KEPT_FOR_TRAINING = 2  # images of a value that training must keep: an anchor and its positive
_PAIR = 2  # images of a value that a held-out split needs: a query and its match
_PLENTY = (
    20  # images of a value from which on every held-out split should have a pair of it, or one in so many if more
)


class Place(NamedTuple):
    """Where an image was put before: its split, and its role there (None leaves it open)."""

    split: str
    role: str | None = None


def stable_splits(
    names: Sequence[str],
    attribute_ids: Sequence[Sequence[int]],
    value_ids: Sequence[Sequence[int]],
    seed: int = 0,
    kept: Mapping[str, Place] | None = None,
) -> dict[str, list[LabelledImage]]:
    """Divide labelled images 8:1:1 into train, validation and test, and the last two 1:4 into queries and gallery.

    A value keeps two images in training where it has two. Each held-out split has two images of every value of 20 images
    or more, and of one value of each attribute, where training can spare them.

    Args:
        names: Distinct names of the images: what decides, together with the seed.
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        seed: Another seed, other splits.
        kept: Name -> place of images that stay where they were.

    Returns:
        Split name -> images in the given order, with image ids counted within the split.

    Raises:
        ValueError: the arguments differ in length, or a name comes twice.
    """
    if not len(names) == len(attribute_ids) == len(value_ids):
        raise ValueError(f"arguments differ in length: {len(names)}, {len(attribute_ids)}, {len(value_ids)}")
    if len(set(names)) < len(names):
        raise ValueError(f"names must be distinct, got {Counter(names).most_common(1)[0][0]!r} twice")
    kept = kept or {}
    parts = _Parts(HashedLabels(names, attribute_ids, value_ids, seed), kept)
    parts.fill_training()
    for split in SPLITS[1:]:
        parts.fill_held_out(split)
    splits = {}
    for split in SPLITS:
        members = [image for image, part in enumerate(parts.split_of) if part == split]
        roles = [TRAIN] * len(members)
        if split != "train":
            labels = ([ids[image] for image in members] for ids in (attribute_ids, value_ids))
            given = [kept[names[i]].role if names[i] in kept else None for i in members]
            roles = stable_roles([names[image] for image in members], *labels, seed, given)
        splits[split] = [
            LabelledImage(names[i], number, tuple(attribute_ids[i]), tuple(value_ids[i]), (role,) * len(value_ids[i]))
            for number, (i, role) in enumerate(zip(members, roles, strict=True))
        ]
    return splits


class _Parts:
    """Images in their splits, with the images of each value counted."""

    def __init__(self, labels: HashedLabels, kept: Mapping[str, Place]) -> None:
        self.labels = labels
        self.fixed = [name in kept for name in labels.names]
        self.split_of = [
            kept[name].split if name in kept else self._by_number(labels.number("split", image))
            for image, name in enumerate(labels.names)
        ]
        self.counts = {split: Counter() for split in SPLITS}
        for values, split in zip(labels.values, self.split_of, strict=True):
            self.counts[split].update(values)

    @staticmethod
    def _by_number(number: float) -> str:
        return "test" if number < _HELD_OUT else "validation" if number < 2 * _HELD_OUT else "train"

    def fill_training(self) -> None:
        """Give each value two training images, where it has two."""
        for value in self._rarest_first():
            lacking = min(_KEPT_FOR_TRAINING, len(self.labels.images_of[value])) - self.counts["train"][value]
            self._move(value, "train", lacking, lambda image: self.split_of[image] != "train")

    def fill_held_out(self, split: str) -> None:
        """Give a held-out split two images of each value of which there are plenty, and of one of each attribute."""
        held, train = self.counts[split], self.counts["train"]
        for value in self._rarest_first():
            if len(self.labels.images_of[value]) >= _PLENTY:
                self._move(value, split, _PAIR - held[value], self._is_spare)
        for values in self.labels.values_of_attributes().values():
            for value in sorted(values, key=lambda value: (-train[value], value)):
                if max(held[value] for value in values) >= _PAIR:
                    break
                lacking = _PAIR - held[value]
                if sum(map(self._is_spare, self.labels.images_of[value])) >= lacking:
                    self._move(value, split, lacking, self._is_spare)

    def _rarest_first(self) -> list[int]:
        return sorted(self.labels.images_of, key=lambda value: (len(self.labels.images_of[value]), value))

    def _is_spare(self, image: int) -> bool:
        counts = self.counts["train"]
        enough = all(counts[value] > _KEPT_FOR_TRAINING for value in self.labels.values[image])
        return enough and self.split_of[image] == "train" and not self.fixed[image]

    def _move(self, value: int, split: str, lacking: int, may_go: Callable[[int], bool]) -> None:
        for image in self.labels.lowest_first(self.labels.images_of[value], split) if lacking > 0 else ():
            if lacking > 0 and may_go(image) and not self.fixed[image]:
                self.counts[self.split_of[image]].subtract(self.labels.values[image])
                self.counts[split].update(self.labels.values[image])
                self.split_of[image] = split
                lacking -= 1
