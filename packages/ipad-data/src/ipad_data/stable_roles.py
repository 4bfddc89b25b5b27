"""Roles by name: query or gallery, by a hash of each image's own name, so that one image more changes hardly any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ipad_data.hashed_labels import HashedLabels
from ipad_data.roles import GALLERY, QUERY, ROLES

_QUERIES = 0.2
_ASKED = 3  # images of a value from which on one of them should be a query


def stable_roles(
    names: Sequence[str],
    attribute_ids: Sequence[Sequence[int]],
    value_ids: Sequence[Sequence[int]],
    seed: int = 0,
    given: Sequence[str | None] | None = None,
) -> list[int]:
    """Query or gallery for each image of a held-out split, 1:4, by a hash of its name: the lowest fifth become queries.

    A query for which the gallery has no image of any of its values becomes a gallery image. Where an attribute has no
    query with a match, or a value of three images or more no query, one image changes its role, if that leaves no other
    without.

    Args:
        names: Distinct names of the images.
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        seed: Another seed, other roles.
        given: Roles that stay, ``query`` or ``gallery``; None where it is open.

    Returns:
        ``QUERY`` or ``GALLERY`` for each image.
    """
    roles = _Roles(HashedLabels(names, attribute_ids, value_ids, seed), given or [None] * len(names))
    roles.withdraw_unanswered()
    for attribute in roles.values_of:
        roles.answer(attribute)
    for value, images in sorted(roles.labels.images_of.items()):
        if len(images) >= _ASKED:
            roles.ask(value)
    return roles.role_of


class _Roles:
    """Roles of the images of a held-out split, with the queries and the gallery images of each value counted."""

    def __init__(self, labels: HashedLabels, given: Sequence[str | None]) -> None:
        self.labels = labels
        self.values_of = labels.values_of_attributes()
        self.open = labels.lowest_first((image for image, role in enumerate(given) if role is None), "role")
        self.role_of = [ROLES.index(role or "gallery") for role in given]
        for image in self.open[: max(1, round(_QUERIES * len(self.open)))]:
            self.role_of[image] = QUERY
        self.counts = {QUERY: Counter(), GALLERY: Counter()}
        for values, role in zip(labels.values, self.role_of, strict=True):
            self.counts[role].update(values)

    def withdraw_unanswered(self) -> None:
        """Make queries without any match gallery images."""
        for image in reversed(self.open):
            found = self.counts[GALLERY]
            if self.role_of[image] == QUERY and not any(found[value] for value in self.labels.values[image]):
                self._change(image)

    def answer(self, attribute: int) -> None:
        """See that an attribute has a query with a match: change the first image that leaves no other attribute without."""
        for image in () if self._is_answered(attribute) else self.open:
            values = self.labels.values[image]
            if not values.isdisjoint(self.values_of[attribute]):
                before = [a for a in {self.labels.attribute_of[v] for v in values} if self._is_answered(a)]
                self._change(image)
                if self._is_answered(attribute) and all(map(self._is_answered, before)):
                    return
                self._change(image)

    def ask(self, value: int) -> None:
        """See that a value has a query: make the first gallery image one that leaves no query without a match."""
        asked, found = self.counts[QUERY], self.counts[GALLERY]
        for image in () if asked[value] else self.open:
            values = self.labels.values[image]
            if value in values and not any(found[v] == 1 and asked[v] for v in values):
                self._change(image)
                return

    def _is_answered(self, attribute: int) -> bool:
        asked, found = self.counts[QUERY], self.counts[GALLERY]
        return any(asked[value] and found[value] for value in self.values_of[attribute])

    def _change(self, image: int) -> None:
        role = self.role_of[image]
        self.role_of[image] = GALLERY if role == QUERY else QUERY
        self.counts[role].subtract(self.labels.values[image])
        self.counts[self.role_of[image]].update(self.labels.values[image])
