"""Clothing Co-Parsing (CCP): from the tags and pixels that its repository annotates to ten attributes with boxes.

``annotations/image-level/NNNN.mat`` lists the tags of a photo, ``annotations/pixel-level/NNNN.mat`` gives each of its pixels
a label, ``label_list.mat`` names the labels.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from ipad_data.errors import ImageDecodeError, LabelFileError
from ipad_data.image_tree import IMAGE_SUFFIXES
from ipad_data.mat_files import Side, read_mat
from ipad_data.regions import Box, Regions
from ipad_data.schema import AttributeSchema
from ipad_data.tables import LabelTable, TableRow
from ipad_data.transforms.decode import image_size

PHOTOS, LABEL_LIST = "photos", "label_list.mat"
IMAGE_LEVEL, PIXEL_LEVEL = "annotations/image-level", "annotations/pixel-level"
MIN_PIXELS = (
    16  # fewer pixels of a label are a slip of the brush: photo 0003 has 4 of a jacket beside 47,950 of a coat
)
NONE = "none"
TAGS = {
    "lower_body": ("pants", "skirt", "dress", "jeans", "shorts", "romper", "leggings"),
    "outerwear": ("coat", "jacket", "blazer", "suit", "vest", "cape", "cardigan"),
    "top": ("shirt", "t-shirt", "blouse", "sweater", "top", "sweatshirt", "jumper"),
    "footwear": ("shoes", "sandals", "heels", "boots", "sneakers", "flats", "pumps", "loafers", "wedges"),
    "bag": ("bag", "purse", "wallet"),
    "legwear": ("stockings", "socks", "leggings", "tights"),
    "eyewear": ("sunglasses", "glasses"),
    "headwear": ("hat",),
    "belt": ("belt",),
    "scarf": ("scarf",),
}
_MAY_BE_NONE = ("eyewear", "headwear", "belt", "scarf")  # without such a tag there is none; other things may be hidden
SCHEMA = AttributeSchema(
    {attribute: sorted((*tags, *([NONE] if attribute in _MAY_BE_NONE else []))) for attribute, tags in TAGS.items()}
)
_BACKGROUND = "null"
_MOST_LABELS, _LONGEST_SIDE = 256, 1 << 14


def photo_paths(folder: Path) -> dict[str, Path]:
    """Number of each photo -> its file."""
    photos = (path for path in (folder / PHOTOS).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return {path.stem: path for path in sorted(photos)}


def annotation_paths(folder: Path) -> dict[str, Path]:
    """Number of each annotated photo -> its annotation, that of its pixels where it has both."""
    found = {path.stem: path for level in (IMAGE_LEVEL, PIXEL_LEVEL) for path in (folder / level).glob("*.mat")}
    return dict(sorted(found.items()))


def read_ccp(folder: Path) -> LabelTable:
    """All annotated photos of the repository, with their regions where their pixels are annotated.

    A photo has a value of an attribute where exactly one of the attribute's tags occurs in it. With two it has none, and
    without any it has ``none`` of the attributes that have this value. A photo in which nothing is annotated but the
    background has no values at all. A label counts as a tag from ``MIN_PIXELS`` pixels on.

    Raises:
        LabelFileError: an annotation, or the list of labels, that cannot be read; a label that is not in the list;
            pixels that are not those of the photo.
        ImportError: SciPy is not installed.
    """
    names = read_label_list(folder / LABEL_LIST)
    photos = photo_paths(folder)
    rows = []
    for number, path in annotation_paths(folder).items():
        photo = photos.get(number)
        if path.parent == folder / PIXEL_LEVEL:
            values, regions = _read_pixels(path, names, photo)
        else:
            values, regions = _values(_read_tags(path, names)), Regions()
        image = f"{PHOTOS}/{number}.jpg" if photo is None else f"{PHOTOS}/{photo.name}"
        rows.append(
            TableRow(str(path), folder, image, {name: (value,) for name, value in values.items()}, regions=regions)
        )
    return LabelTable(folder, SCHEMA.attributes, rows)


def read_label_list(path: Path) -> list[str]:
    """Names of the labels by their numbers.

    Raises:
        LabelFileError: not a list of names, the background not first, or a tag of ours is missing.
    """
    cells = read_mat(path, "label_list", "cells", (1, range(1, _MOST_LABELS + 1)))[0]
    names = [cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 else None for cell in cells]
    if not all(isinstance(name, str) for name in names) or names[0] != _BACKGROUND:
        raise LabelFileError.at(path, None, f"'label_list' must hold names, {_BACKGROUND!r} first; got {names[:5]}")
    if lacking := sorted({tag for tags in TAGS.values() for tag in tags} - set(names)):
        raise LabelFileError.at(path, None, f"'label_list' lacks {', '.join(lacking)}")
    return names


def _read_tags(path: Path, names: list[str]) -> set[str]:
    tags = read_mat(path, "tags", "numbers", (1, range(1, _MOST_LABELS + 1)))
    _check_labels(path, int(tags.max()), names)
    return {names[tag] for tag in tags[0]} - {_BACKGROUND}


def _read_pixels(path: Path, names: list[str], photo: Path | None) -> tuple[dict[str, str], Regions]:
    pixels = read_mat(path, "groundtruth", "numbers", _shape_of(photo))  # (H, W)
    counts = np.bincount(pixels.ravel(), minlength=len(names))
    _check_labels(path, len(counts) - 1, names)
    person = pixels.size - int(counts[0])
    if not person:
        return {}, Regions()
    values = _values({names[label] for label in np.flatnonzero(counts >= MIN_PIXELS)} - {_BACKGROUND})
    boxes, chance = {}, {}
    for attribute, value in values.items():
        if value != NONE:
            rows, columns = _extent(pixels == names.index(value))
            boxes[attribute] = [_share_box(rows, columns, pixels.shape)]
            chance[attribute] = np.count_nonzero(pixels[rows, columns]) / person
    return values, Regions(boxes, chance, _share_box(*_extent(pixels > 0), pixels.shape))


def _values(tags: Collection[str]) -> dict[str, str]:
    """Attribute -> its value in a photo with these tags."""
    values = {}
    for attribute, of_attribute in TAGS.items() if tags else ():
        found = [tag for tag in of_attribute if tag in tags]
        if len(found) == 1:
            values[attribute] = found[0]
        elif not found and attribute in _MAY_BE_NONE:
            values[attribute] = NONE
    return values


def _shape_of(photo: Path | None) -> tuple[Side, Side]:
    """Rows and columns that pixels must have: those of the photo; any where it is not there or no image."""
    try:
        if photo is not None:
            return image_size(photo)[::-1]
    except ImageDecodeError:
        pass  # found where images are read: by the doctor, or by the first batch
    return range(1, _LONGEST_SIDE), range(1, _LONGEST_SIDE)


def _check_labels(path: Path, largest: int, names: list[str]) -> None:
    if largest >= len(names):
        raise LabelFileError.at(path, None, f"label {largest} is not in {LABEL_LIST}, which has 0 to {len(names) - 1}")


def _extent(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns in which a mask is set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _share_box(rows: slice, columns: slice, shape: tuple[int, int]) -> Box:
    height, width = shape
    return columns.start / width, rows.start / height, columns.stop / width, rows.stop / height
