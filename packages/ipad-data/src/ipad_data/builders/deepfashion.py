"""DeepFashion, Category and Attribute Prediction: 1000 attributes of five types (Liu et al. 2016).

The field takes the five types (texture, fabric, shape, part, style) as attributes and the 1000 as their values; an
image can have several values of one type. Every ``list_*.txt`` starts with a count and a line of column names.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets import Version

from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import RealConfig
from ipad_data.deepfashion_files import (
    FINE,
    SCHEMA,
    cloth_schema,
    coarse_beside,
    read_attr_cloth,
    read_attr_img,
    read_boxes,
    read_partition,
)
from ipad_data.errors import DatasetFilesNotFoundError, ImageDecodeError, LabelFileError
from ipad_data.label_files import LabelledImage, RawLabels
from ipad_data.roles import SPLITS, TRAIN
from ipad_data.schema import AttributeSchema
from ipad_data.splits import held_out_roles
from ipad_data.transforms.decode import open_image

_ANNOTATION_FOLDERS = ("Anno_coarse", "Anno", "", "Anno/Anno_coarse")
_LONG_SIDE = 300


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
    VERSION = Version("1.3.0")  # raise it when the parser changes
    TITLE = "DeepFashion"
    HOMEPAGE = "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html"
    LICENSE = "The agreement with MMLAB: non-commercial research only."
    CITATION = """@inproceedings{liu2016deepfashion,
  title = {DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations},
  author = {Liu, Ziwei and Luo, Ping and Qiu, Shi and Wang, Xiaogang and Tang, Xiaoou},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2016},
}"""
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
            raise DatasetFilesNotFoundError.explain(
                f"{name} of Anno_coarse", fine[:1], f"Found instead: {FINE}{coarse_beside(fine[0])}."
            )
        looked = [config.folder / folder / name for folder in (*_ANNOTATION_FOLDERS[:3], "Eval")]
        raise DatasetFilesNotFoundError.explain(name, looked, cls.HOW_TO_GET)

    @classmethod
    def raw_files(cls, config: DeepFashionConfig) -> list[Path]:
        names = ("list_attr_cloth.txt", "list_attr_img.txt", "list_eval_partition.txt", "list_bbox.txt")
        return [path for name in names if (path := cls.find_file(config, name)) is not None]

    @classmethod
    def reads_images(cls, config: DeepFashionConfig) -> bool:
        """Crops are stored in the table."""
        return config.crop

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
