"""Random splits: 8:1:1 into train, validation, test, and 1:4 into query, gallery; seeded, stratified by value.

Stratification rounds, and on small data rounding leaves values with a few held-out images without a query, or held-out
images without any other of their value. Both are mended here, so that what is held out can be used.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ipad_data.label_files import LabelledImage
from ipad_data.roles import GALLERY, QUERY, SPLITS, TRAIN
from ipad_data.schema import AttributeSchema
from ipad_data.stratification import stratified_parts

_KEPT_FOR_TRAINING = 2  # images of a value that training must keep: an anchor and its positive


def random_splits(
    names: Sequence[str],
    attribute_ids: Sequence[Sequence[int]],
    value_ids: Sequence[Sequence[int]],
    seed: int = 0,
    fractions: Sequence[float] = (8, 1, 1),
    query_to_gallery: Sequence[float] = (1, 4),
) -> dict[str, list[LabelledImage]]:
    """Divide labelled images into train, validation and test, and the last two into queries and gallery.

    All entries of an image share its role, so no query finds its own image in the gallery.

    Args:
        names: Relative path of each image.
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        seed: Same seed, same splits.
        fractions: Train : validation : test.
        query_to_gallery: Queries : gallery.

    Returns:
        Split name -> images in the given order, with image ids counted within the split. Where every value has a
        handful of images only, validation and test may be empty.

    Raises:
        ValueError: fractions are not three or two positive numbers; the arguments differ in length.
    """
    if len(fractions) != len(SPLITS) or len(query_to_gallery) != 2:
        raise ValueError(f"expected 3 fractions and 2 for queries, got {list(fractions)}, {list(query_to_gallery)}")
    if not len(names) == len(attribute_ids) == len(value_ids):
        raise ValueError(f"arguments differ in length: {len(names)}, {len(attribute_ids)}, {len(value_ids)}")
    split_of = stratified_parts(value_ids, fractions, seed)
    parts = _Parts(attribute_ids, value_ids, split_of)
    for number in range(1, len(SPLITS)):
        parts.pair_up(number)
    splits = {}
    for number, split in enumerate(SPLITS):
        members = np.flatnonzero(split_of == number).tolist()
        roles = [TRAIN] * len(members)
        if split != "train":
            labels = ([ids[i] for i in members] for ids in (attribute_ids, value_ids))
            roles = held_out_roles(*labels, seed + number, query_to_gallery)
        splits[split] = [
            LabelledImage(
                names[i], image_id, tuple(attribute_ids[i]), tuple(value_ids[i]), (role,) * len(value_ids[i])
            )
            for image_id, (i, role) in enumerate(zip(members, roles, strict=True))
        ]
    return splits


def held_out_roles(
    attribute_ids: Sequence[Sequence[int]],
    value_ids: Sequence[Sequence[int]],
    seed: int = 0,
    query_to_gallery: Sequence[float] = (1, 4),
) -> list[int]:
    """Query or gallery for each image of a held-out split, stratified by value.

    Where rounding has made too few queries, gallery images become queries, but only where another image of a value of
    theirs stays in the gallery: until every attribute has such a query, and until the share of queries is right, of
    values without a query first.

    Args:
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        seed: Same seed, same roles.
        query_to_gallery: Queries : gallery.

    Returns:
        ``QUERY`` or ``GALLERY`` for each image.
    """
    roles = (stratified_parts(value_ids, query_to_gallery, seed) + QUERY).tolist()
    attribute_of = {v: a for pair in zip(attribute_ids, value_ids, strict=True) for a, v in zip(*pair, strict=True)}
    asked, found = Counter(), Counter()
    for values, role in zip(value_ids, roles, strict=True):
        (asked if role == QUERY else found).update(set(values))
    share = query_to_gallery[0] / sum(query_to_gallery)
    lacking = max(1, round(share * len(roles))) - roles.count(QUERY)
    unanswered = set(attribute_of.values()) - {attribute_of[value] for value in asked if found[value]}
    candidates = [i for i in np.random.default_rng(seed).permutation(len(roles)).tolist() if roles[i] == GALLERY]
    for first_of in ("attribute", "value", None):
        for image in candidates:
            if not unanswered and lacking <= 0:
                return roles
            values = set(value_ids[image])
            answered = {value for value in values if found[value] > 1}
            if first_of == "attribute":
                answered = {value for value in answered if attribute_of[value] in unanswered}
            elif lacking <= 0:
                break
            elif first_of == "value":
                answered = {value for value in answered if not asked[value]}
            last_match = any(found[value] == 1 and asked[value] for value in values)
            if answered and not last_match and roles[image] == GALLERY:
                roles[image] = QUERY
                asked.update(values)
                found.subtract(values)
                unanswered -= {attribute_of[value] for value in values if found[value]}
                lacking -= 1
    return roles


class _Parts:
    """Images in their splits, with the images of each value counted, so that single images can change places."""

    def __init__(
        self, attribute_ids: Sequence[Sequence[int]], value_ids: Sequence[Sequence[int]], split_of: np.ndarray
    ) -> None:
        self.attribute_ids, self.value_ids, self.split_of = attribute_ids, value_ids, split_of
        self.counts = [Counter() for _ in SPLITS]
        self.images_of: dict[int, list[int]] = {}
        for image, (values, part) in enumerate(zip(value_ids, split_of.tolist(), strict=True)):
            self.counts[part].update(set(values))
            for value in set(values):
                self.images_of.setdefault(value, []).append(image)

    def pair_up(self, number: int) -> None:
        """Give a held-out split partners from training: for each attribute that has single images of its values only,
        and for each image that shares no value with another.

        Another image goes to training for each, where one can be spared, so that sizes hardly change. Training keeps
        two images of every value that it gives from.
        """
        held_out = self.counts[number]
        members = np.flatnonzero(self.split_of == number).tolist()
        values_of: dict[int, set[int]] = {}
        for image in members:
            for attribute_id, value_id in zip(self.attribute_ids[image], self.value_ids[image], strict=True):
                values_of.setdefault(attribute_id, set()).add(value_id)
        for values in values_of.values():
            if all(held_out[value] == 1 for value in values) and self._bring_partner(values, number):
                self._give_one_back(deque(members), number)
        alone = deque(image for image in members if self._is_alone(image, number))
        while alone:
            image = alone.popleft()
            if self._is_alone(image, number) and self._bring_partner(self.value_ids[image], number):
                self._give_one_back(alone, number)

    def _bring_partner(self, values: Collection[int], number: int) -> bool:
        """Move an image that has one of the values from training; whether there was one to spare."""
        train = self.counts[0]
        for value in sorted(set(values), key=lambda value: (-train[value], value)):
            for image in self.images_of[value] if train[value] > _KEPT_FOR_TRAINING else ():
                if self.split_of[image] == 0 and all(train[v] > _KEPT_FOR_TRAINING for v in self.value_ids[image]):
                    self._move(image, number)
                    return True
        return False

    def _give_one_back(self, spare: deque[int], number: int) -> None:
        """Move the last of some images that leaves no other alone to training."""
        while spare:
            image = spare.pop()
            counts = [self.counts[number][value] for value in self.value_ids[image]]
            if self.split_of[image] == number and all(count == 1 or count > 2 for count in counts):
                self._move(image, 0)
                return

    def _is_alone(self, image: int, number: int) -> bool:
        values = self.value_ids[image]
        shared = any(self.counts[number][value] > 1 for value in values)
        return bool(values) and self.split_of[image] == number and not shared

    def _move(self, image: int, number: int) -> None:
        self.counts[self.split_of[image]].subtract(set(self.value_ids[image]))
        self.counts[number].update(set(self.value_ids[image]))
        self.split_of[image] = number


def unanswered_note(splits: Mapping[str, Sequence[LabelledImage]], schema: AttributeSchema) -> str:
    """Which attributes of held-out splits have no query with a gallery image of its value; empty where all have one."""
    notes = []
    for split, images in splits.items():
        asked, found = set(), set()
        for image in images if split != "train" else ():
            for value_id, role in zip(image.value_ids, image.roles, strict=True):
                (asked if role == QUERY else found).add(value_id)
        labelled = {schema.locate(value_id)[0] for value_id in asked | found}
        if lost := sorted(labelled - {schema.locate(value_id)[0] for value_id in asked & found}):
            names = ", ".join(schema.attributes[attribute_id] for attribute_id in lost)
            notes.append(f"in {split} no query of {names} has a gallery image of its value")
    return "; ".join(notes)
