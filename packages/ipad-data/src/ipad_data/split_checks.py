"""Checks of splits against themselves: what a damaged or mixed-up copy of label files gives away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ipad_data.faults import Faults
from ipad_data.label_files import LabelledImage
from ipad_data.roles import GALLERY, QUERY
from ipad_data.schema import AttributeSchema

Splits = Mapping[str, Sequence[LabelledImage]]
IN_SEVERAL_SPLITS = "images are in more than one split"
TWICE = "images come twice in a split with labels of the same attribute"
BOTH_ROLES = "images are query and candidate of an attribute at once"
TWO_VALUES = "images have two values of an attribute that can have one"
OTHER_FOLDER = (
    "images lie in the folder of an attribute that they are not labelled with (names or labels are shifted, or meta.json "
    "has another order of attributes)"
)
SAME_CONTENT = "images are a copy of another, with labels of the same attribute or in two splits"
SAME_FILE = "images are one file under two names, with labels of the same attribute or in two splits"


def check_splits(
    splits: Splits,
    schema: AttributeSchema,
    faults: Faults,
    exclusive: bool,
    attribute_of_path: Callable[[str], str | None],
    place: Callable[[str, LabelledImage], str],
) -> None:
    """Note what contradicts itself: an image in two splits or twice in one, query and candidate at once, two values of an
    exclusive attribute, a path that names another attribute than the labels.

    Args:
        splits: The splits.
        schema: Attributes and values.
        faults: Where faults are noted.
        exclusive: Whether an image has one value of an attribute at most.
        attribute_of_path: Attribute that an image's path names; None where it names none.
        place: Where an image of a split is written, for messages.
    """
    _check_repeats(splits, faults, lambda _, image: image.name, place, TWICE, IN_SEVERAL_SPLITS)
    for split, images in splits.items():
        for image in images:
            for kind in _faults_of(image, schema, exclusive, attribute_of_path(image.name)):
                faults.add(kind, place(split, image))


def check_files(
    splits: Splits, files: Mapping[str, Sequence[str | None]], faults: Faults, kind: str = SAME_FILE
) -> None:
    """Note files that two names stand for, in two splits or with labels of the same attribute.

    Args:
        splits: The splits.
        files: What tells files apart: the path of each image, or a digest of its content; None where it is missing.
        faults: Where faults are noted.
        kind: What the fault is.
    """
    file_of = {
        (split, image.image_id): file
        for split, images in splits.items()
        for image, file in zip(images, files[split], strict=True)
    }

    def key(split: str, image: LabelledImage) -> str | None:
        return file_of[split, image.image_id]

    _check_repeats(splits, faults, key, lambda split, image: f"{image.name} of {split}", kind, kind, True)


def _check_repeats(
    splits: Splits,
    faults: Faults,
    key: Callable[[str, LabelledImage], str | None],
    place: Callable[[str, LabelledImage], str],
    within: str,
    across: str,
    names_differ: bool = False,
) -> None:
    seen: dict[str, tuple[str, LabelledImage]] = {}
    for split, images in splits.items():
        for image in images:
            name = key(split, image)
            if name is None:
                continue
            other_split, other = seen.setdefault(name, (split, image))
            if other is image or (names_differ and other.name == image.name):
                continue
            where = f"{place(other_split, other)} and {place(split, image)}"
            if other_split != split:
                faults.add(across, where)
            elif set(image.attribute_ids) & set(other.attribute_ids):
                same = set(image.value_ids) == set(other.value_ids)
                faults.add(within, where if same else f"{where} with different labels")


def _faults_of(
    image: LabelledImage, schema: AttributeSchema, exclusive: bool, attribute_of_path: str | None
) -> Iterable[str]:
    if len(image.value_ids) > 1:
        values: dict[int, set[int]] = {}
        roles: dict[int, set[int]] = {}
        for attribute, value, role in zip(image.attribute_ids, image.value_ids, image.roles, strict=True):
            values.setdefault(attribute, set()).add(value)
            roles.setdefault(attribute, set()).add(role)
        if any({QUERY, GALLERY} <= found for found in roles.values()):
            yield BOTH_ROLES
        if exclusive and any(len(found) > 1 for found in values.values()):
            yield TWO_VALUES
    named = attribute_of_path in schema.attributes
    if named and schema.attributes.index(attribute_of_path) not in image.attribute_ids:
        yield OTHER_FOLDER
