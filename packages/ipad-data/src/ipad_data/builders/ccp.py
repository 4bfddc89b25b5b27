"""Clothing Co-Parsing (Yang et al. 2014): street photos of whole outfits, half of them with annotated pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datasets import Version

from ipad_data.builders._photos import PhotoBuilder, PhotoConfig
from ipad_data.ccp_files import IMAGE_LEVEL, LABEL_LIST, PHOTOS, SCHEMA, annotation_paths, photo_paths, read_ccp
from ipad_data.errors import DatasetFilesNotFoundError
from ipad_data.label_files import LabelledImage
from ipad_data.schema import AttributeSchema
from ipad_data.splits import random_splits
from ipad_data.tables import LabelTable, TableRow

HOW_TO_GET = "`git clone https://github.com/bearpaw/clothing-co-parsing` fetches it (131 MB, Apache 2.0)."


class CCP(PhotoBuilder):
    """Clothing Co-Parsing as its public repository has it: ten attributes, true boxes where pixels are annotated.

    The splits are drawn over all annotations, so that a photo that is not there moves no other.

    References:
        Yang, Luo, Lin 2014, "Clothing Co-Parsing by Joint Image Segmentation and Labeling".
    """

    BUILDER_CONFIG_CLASS = PhotoConfig
    VERSION = Version("1.1.0")
    HAS_SUBJECT: ClassVar[bool] = True
    PHOTOS: ClassVar[str] = PHOTOS
    HOMEPAGE: ClassVar[str] = "https://github.com/bearpaw/clothing-co-parsing"
    LICENSE: ClassVar[str] = "Apache-2.0"
    CITATION: ClassVar[str] = """@inproceedings{yang2014clothing,
  title = {Clothing Co-Parsing by Joint Image Segmentation and Labeling},
  author = {Yang, Wei and Luo, Ping and Lin, Liang},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2014},
}"""
    HOW_TO_MEND: ClassVar[str] = f"Mend what is said above, or get the dataset again: {HOW_TO_GET}"

    schema: AttributeSchema = SCHEMA
    has_boxes: bool = True

    @classmethod
    def annotation_files(cls, config: PhotoConfig) -> list[Path]:
        """The list of labels and all annotations."""
        if not (config.folder / PHOTOS).is_dir():
            raise _not_found("folder of photos", config.folder / PHOTOS)
        if not (config.folder / LABEL_LIST).is_file():
            raise _not_found("list of labels", config.folder / LABEL_LIST)
        annotations = annotation_paths(config.folder).values()
        if not annotations:
            raise _not_found("annotations", config.folder / "annotations" / "*-level" / "*.mat")
        return [config.folder / LABEL_LIST, *annotations]

    @classmethod
    def image_folders(cls, config: PhotoConfig) -> list[Path]:
        """The folder of the photos."""
        return [config.folder / PHOTOS]

    @cached_property
    def table(self) -> LabelTable:
        """The annotations as read."""
        return read_ccp(self.config.folder)

    def locate_images(self) -> tuple[list[tuple[TableRow, Path]], list[TableRow]]:
        """Annotated photos; and annotations without photo, and photos without annotation."""
        folder = self.config.folder
        photos, found, absent = photo_paths(folder), [], []
        for row in self.table.rows:
            photo = photos.pop(Path(row.image).stem, None)
            if photo is None:
                absent.append(row)
            else:
                found.append((row, photo))
        absent += [TableRow(str(photo), folder, f"{IMAGE_LEVEL}/{number}.mat", {}) for number, photo in photos.items()]
        return found, absent

    def missing_advice(self, absent: Sequence[TableRow]) -> tuple[str, list[Path], str]:
        """About photos or annotations that are not there: of what, where the first should be, what to do."""
        return "photos and annotations of Clothing Co-Parsing", [self.config.folder / absent[0].image], HOW_TO_GET

    def divide(self, rows: Sequence[tuple[TableRow, Path]]) -> dict[str, list[LabelledImage]]:
        """Random splits of all annotated photos, of which those of the given rows are kept."""
        splits = super().divide([(row, row.folder / row.image) for row in self.table.rows])
        kept = {str(path) for _, path in rows}
        return {split: [image for image in images if image.name in kept] for split, images in splits.items()}

    def draw_splits(
        self,
        rows: Sequence[tuple[TableRow, Path]],
        attribute_ids: Sequence[Sequence[int]],
        value_ids: Sequence[Sequence[int]],
    ) -> dict[str, list[LabelledImage]]:
        """Splits drawn over all images at once, which divides every value as exactly as can be."""
        return random_splits([str(path) for _, path in rows], attribute_ids, value_ids, self.config.seed)


def _not_found(what: str, path: Path) -> DatasetFilesNotFoundError:
    return DatasetFilesNotFoundError.explain(f"{what} of Clothing Co-Parsing", [path], HOW_TO_GET)
