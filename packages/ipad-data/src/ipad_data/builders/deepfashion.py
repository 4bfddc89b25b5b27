"""DeepFashion, Category and Attribute Prediction: 1000 attributes of five types (Liu et al. 2016).

The field takes the five types (texture, fabric, shape, part, style) as attributes and the 1000 as their values; an
image can have several values of one type. Every ``list_*.txt`` starts with a count and a line of column names.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from datasets import Version

from ipad_data.builders._real import RawLabels, RealConfig, RealDatasetBuilder
from ipad_data.errors import DatasetFilesNotFoundError, ImageDecodeError, LabelFileError
from ipad_data.label_files import LabelledImage
from ipad_data.label_text import filled_lines, parse_int, safe_relative_path
from ipad_data.roles import SPLITS, TRAIN
from ipad_data.schema import AttributeSchema
from ipad_data.splits import held_out_roles
from ipad_data.transforms.decode import open_image

TYPES = ("texture", "fabric", "shape", "part", "style")
SCHEMA = AttributeSchema(
    {
        kind: [str(value) for value in range(count)]
        for kind, count in zip(TYPES, (156, 218, 180, 216, 230), strict=True)
    }
)
_ANNOTATION_FOLDERS = ("Anno_coarse", "Anno", "", "Anno/Anno_coarse")
_FINE = (
    "these are the 26 attributes of Anno_fine; the field's benchmark uses the 1000 of Anno_coarse (called Anno in "
    "older copies). Download that folder of the same benchmark"
)
_PARTITION = {"train": "train", "val": "validation", "test": "test"}
_LONG_SIDE = 300


class ClothAttribute(NamedTuple):
    """One line of ``list_attr_cloth.txt``: the name may hold spaces; ``kind`` is an index into :data:`TYPES`."""

    name: str
    kind: int


def counted_rows(path: Path) -> Iterator[tuple[int, str]]:
    """Rows below the two header lines, with their line numbers; the first line must count them.

    Raises:
        LabelFileError: no count, or another number of rows.
    """
    lines = filled_lines(path)
    number, first = next(lines, (None, ""))
    if number is None:
        raise LabelFileError.at(path, None, "is empty; expected a count, column names and rows")
    expected = parse_int(first, "the first line, the number of rows,", path, number)
    next(lines, None)
    rows = 0
    for number, line in lines:
        rows += 1
        yield number, line
    if rows != expected:
        raise LabelFileError.at(path, 1, f"the count says {expected} rows, the file has {rows}")


def read_attr_cloth(path: Path) -> list[ClothAttribute]:
    """Attributes in the order of the columns of ``list_attr_img.txt``.

    Raises:
        LabelFileError: a row that is no name and type, an unknown type, or the file is Anno_fine's.
    """
    attributes = []
    rows = list(counted_rows(path))
    if len(rows) == 26 or "Anno_fine" in path.parts:
        raise LabelFileError.at(path, 1, _FINE)
    for number, line in rows:
        fields = line.rsplit(None, 1)
        if len(fields) != 2:
            raise LabelFileError.at(path, number, f"expected an attribute name and its type, got {line!r}")
        kind = parse_int(fields[1], "the type", path, number)
        if not 1 <= kind <= len(TYPES):
            raise LabelFileError.at(path, number, f"the type must be within [1, {len(TYPES)}], got {kind}")
        attributes.append(ClothAttribute(fields[0], kind - 1))
    return attributes


def cloth_schema(attributes: list[ClothAttribute]) -> tuple[AttributeSchema, list[int]]:
    """Schema of the types, and the flat value id of each column. A repeated name gets its column number added."""
    values: dict[str, list[str]] = {kind: [] for kind in TYPES}
    places = []
    for column, (name, kind) in enumerate(attributes):
        names = values[TYPES[kind]]
        places.append((kind, len(names)))
        names.append(name if name not in names else f"{name} #{column}")
    schema = AttributeSchema({kind: names for kind, names in values.items() if names})
    ids = [schema.attributes.index(TYPES[kind]) for kind, _ in places]
    return schema, [schema.offsets[i] + local for i, (_, local) in zip(ids, places, strict=True)]


def read_attr_img(path: Path, schema: AttributeSchema, value_of_column: list[int]) -> RawLabels:
    """Images with at least one positive attribute. ``-1`` (negative) and ``0`` (unknown) give no label.

    Raises:
        LabelFileError: a row with another number of columns, a field that is not -1, 0 or 1, an image that comes
            twice.
    """
    labels = RawLabels([], [], [])
    seen: set[str] = set()
    columns = len(value_of_column)
    attribute_of = [schema.locate(value_id)[0] for value_id in value_of_column]
    for number, line in counted_rows(path):
        fields = line.rsplit(None, columns)
        if len(fields) != columns + 1:
            raise LabelFileError.at(
                path, number, f"expected an image path and {columns} columns, got {len(line.split()) - 1} columns"
            )
        name = safe_relative_path(fields[0], path, number)
        if name in seen:
            raise LabelFileError.at(path, number, f"{name!r} has a row already")
        seen.add(name)
        if unknown := set(fields[1:]) - {"-1", "0", "1"}:
            raise LabelFileError.at(path, number, f"columns must be -1, 0 or 1, got {min(unknown)!r}")
        positive = sorted((value_of_column[i], attribute_of[i]) for i, text in enumerate(fields[1:]) if text == "1")
        if positive:
            labels.names.append(name)
            labels.value_ids.append(tuple(value_id for value_id, _ in positive))
            labels.attribute_ids.append(tuple(attribute_id for _, attribute_id in positive))
    return labels


def read_partition(path: Path) -> dict[str, str]:
    """Split of each image of ``list_eval_partition.txt``.

    Raises:
        LabelFileError: an unknown split, an image that comes twice.
    """
    partition: dict[str, str] = {}
    for number, line in counted_rows(path):
        name, _, split = line.rpartition(" ")
        if split not in _PARTITION:
            raise LabelFileError.at(path, number, f"the split must be {', '.join(_PARTITION)}, got {split!r}")
        name = safe_relative_path(name.strip(), path, number)
        if name in partition:
            raise LabelFileError.at(path, number, f"{name!r} has a row already")
        partition[name] = _PARTITION[split]
    return partition


def read_boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """Box ``x1, y1, x2, y2`` in pixels of each image of ``list_bbox.txt``.

    Raises:
        LabelFileError: a row that is no path and four integers, or a box without area.
    """
    boxes: dict[str, tuple[int, int, int, int]] = {}
    for number, line in counted_rows(path):
        fields = line.rsplit(None, 4)
        if len(fields) != 5:
            raise LabelFileError.at(path, number, f"expected an image path and four integers, got {line[:80]!r}")
        x1, y1, x2, y2 = (parse_int(field, "a coordinate", path, number) for field in fields[1:])
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise LabelFileError.at(path, number, f"expected 0 <= x1 < x2 and 0 <= y1 < y2, got {x1} {y1} {x2} {y2}")
        boxes[safe_relative_path(fields[0], path, number)] = (x1, y1, x2, y2)
    return boxes


@dataclass
class DeepFashionConfig(RealConfig):
    """Options of DeepFashion (see also :class:`~ipad_data.builders._real.RealConfig`).

    Args:
        protocol: Also ``official``: the splits of ``list_eval_partition.txt``, with seeded, stratified queries 1:4.
        crop: Cut images to the box of ``list_bbox.txt`` (stored as JPEG, quality 95). The boxes belong to the
            low-resolution images, whose long side is 300 pixels; others are refused.
    """

    protocols: ClassVar[tuple[str, ...]] = ("published", "random", "official")

    crop: bool = False


class DeepFashion(RealDatasetBuilder):
    """Builder of DeepFashion."""

    BUILDER_CONFIG_CLASS = DeepFashionConfig
    VERSION = Version("1.1.0")  # raise it when the parser changes
    TITLE = "DeepFashion"
    ANCHOR = "img"
    SCHEMA = SCHEMA
    HOW_TO_GET = (
        "DeepFashion's Category and Attribute Prediction Benchmark is given out by MMLAB "
        "(mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html): Anno_coarse, Eval and the low-resolution img.zip."
    )

    @classmethod
    def find_file(cls, config: RealConfig, name: str) -> Path | None:
        """A ``list_*.txt`` in the annotation folders, in the folder itself or its subfolder ``DeepFashion``."""
        for place in (config.folder, config.folder / cls.TITLE):
            for folder in (*_ANNOTATION_FOLDERS, "Eval"):
                if (path := place / folder / name).is_file():
                    return path
        return None

    @classmethod
    def need_file(cls, config: RealConfig, name: str) -> Path:
        """As :meth:`find_file`, raising DatasetFilesNotFoundError where there is none."""
        path = cls.find_file(config, name)
        if path is not None:
            return path
        places = ("Anno_fine", "*/Anno_fine")
        if fine := [path for place in places for path in config.folder.glob(f"{place}/{name}")]:
            raise DatasetFilesNotFoundError.explain(f"{name} of Anno_coarse", fine[:1], f"Found instead: {_FINE}.")
        looked = [config.folder / folder / name for folder in (*_ANNOTATION_FOLDERS[:3], "Eval")]
        raise DatasetFilesNotFoundError.explain(name, looked, cls.HOW_TO_GET)

    @classmethod
    def raw_files(cls, config: DeepFashionConfig) -> list[Path]:
        names = ("list_attr_cloth.txt", "list_attr_img.txt", "list_eval_partition.txt", "list_bbox.txt")
        return [path for name in names if (path := cls.find_file(config, name)) is not None]

    @classmethod
    def raw_schema(cls, config: DeepFashionConfig) -> AttributeSchema:
        return cloth_schema(read_attr_cloth(cls.need_file(config, "list_attr_cloth.txt")))[0]

    def read_raw(self) -> RawLabels:
        schema, value_of_column = cloth_schema(read_attr_cloth(self.need_file(self.config, "list_attr_cloth.txt")))
        return read_attr_img(self.need_file(self.config, "list_attr_img.txt"), schema, value_of_column)

    def divide(self, raw: RawLabels) -> dict[str, list[LabelledImage]]:
        if self.config.protocol != "official":
            return super().divide(raw)
        path = self.need_file(self.config, "list_eval_partition.txt")
        partition = read_partition(path)
        members: dict[str, list[int]] = {split: [] for split in SPLITS}
        for i, name in enumerate(raw.names):
            if name not in partition:
                raise LabelFileError.at(path, None, f"has no row for {name!r} of list_attr_img.txt")
            members[partition[name]].append(i)
        return {split: self._official(raw, split, indices) for split, indices in members.items()}

    def _official(self, raw: RawLabels, split: str, indices: list[int]) -> list[LabelledImage]:
        roles = [TRAIN] * len(indices)
        if split != "train":
            labels = ([ids[i] for i in indices] for ids in (raw.attribute_ids, raw.value_ids))
            roles = held_out_roles(*labels, self.config.seed + len(split))
        return [
            LabelledImage(
                raw.names[i], number, raw.attribute_ids[i], raw.value_ids[i], (role,) * len(raw.value_ids[i])
            )
            for number, (i, role) in enumerate(zip(indices, roles, strict=True))
        ]

    def adapt_splits(self, splits: dict[str, list[LabelledImage]]) -> dict[str, list[LabelledImage]]:
        if self.config.crop:
            path = self.need_file(self.config, "list_bbox.txt")
            self._boxes = {_below_img(name): box for name, box in read_boxes(path).items()}
            absent = [i.name for images in splits.values() for i in images if _below_img(i.name) not in self._boxes]
            if absent:
                raise LabelFileError.at(path, None, f"has no box for {len(absent)} images, e.g. {absent[0]!r}")
        return splits

    def stored_image(self, image: LabelledImage, path: str) -> dict[str, Any]:
        if not self.config.crop:
            return super().stored_image(image, path)
        picture = open_image(path)
        if max(picture.size) > _LONG_SIDE * 1.1:
            raise ImageDecodeError(
                f"{path}: {picture.width} x {picture.height} pixels, but the boxes of list_bbox.txt belong to the "
                f"low-resolution images (long side {_LONG_SIDE}); load those, or without crop"
            )
        x1, y1, x2, y2 = self._boxes[_below_img(image.name)]
        if x1 >= picture.width or y1 >= picture.height:
            raise ImageDecodeError(f"{path}: its box {x1, y1, x2, y2} is outside the image {picture.size}")
        buffer = io.BytesIO()
        picture.crop((x1, y1, min(x2, picture.width), min(y2, picture.height))).save(buffer, "JPEG", quality=95)
        # The name only serves messages. It must not be a file: datasets would keep the path and drop the bytes.
        return {"path": f"{path}#{x1},{y1},{x2},{y2}", "bytes": buffer.getvalue()}


def _below_img(name: str) -> str:
    return name.rpartition("img/")[2] if name.startswith("img/") or "/img/" in name else name
