"""FashionAI: eight attributes of women's clothing, one attribute labelled an image (Zou et al. 2019).

The raw release (Tianchi) holds ``Annotations/label.csv`` without a header, in one or several archives: image path,
``<attribute>_labels``, and one letter a value: ``y`` yes, ``m`` maybe, ``n`` no; exactly one ``y``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from datasets import Version

from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import RealConfig
from ipad_data.errors import DatasetFilesNotFoundError, LabelFileError
from ipad_data.faults import Faults
from ipad_data.label_files import LabelledImage, RawLabels
from ipad_data.label_text import filled_lines, safe_relative_path
from ipad_data.roles import TRAIN
from ipad_data.schema import AttributeSchema

_FOLDER_OF_ATTRIBUTE = "_labels"
OTHER_THAN_RAW = "images have another value than in label.csv"
MAYBE = ("ignore", "drop", "also")
SCHEMA = AttributeSchema(
    {
        "skirt_length": [
            "Invisible",
            "Short Length",
            "Knee Length",
            "Midi Length",
            "Ankle Length",
            "Floor Length",
        ],
        "sleeve_length": [
            "Invisible",
            "Sleeveless",
            "Cup Sleeves",
            "Short Sleeves",
            "Elbow Sleeves",
            "3/4 Sleeves",
            "Wrist Length",
            "Long Sleeves",
            "Extra Long Sleeves",
        ],
        "coat_length": [
            "Invisible",
            "High Waist Length",
            "Regular Length",
            "Long Length",
            "Micro Length",
            "Knee Length",
            "Midi Length",
            "Ankle&Floor Length",
        ],
        "pant_length": [
            "Invisible",
            "Short Pant",
            "Mid Length",
            "3/4 Length",
            "Cropped Pant",
            "Full Length",
        ],
        "collar_design": ["Invisible", "Shirt Collar", "Peter Pan", "Puritan Collar", "Rib Collar"],
        "lapel_design": ["Invisible", "Notched", "Collarless", "Shawl Collar", "Plus Size Shawl"],
        "neckline_design": [
            "Invisible",
            "Strapless Neck",
            "Deep V Neckline",
            "Straight Neck",
            "V Neck",
            "Square Neckline",
            "Off Shoulder",
            "Round Neckline",
            "Sweat Heart Neck",
            "OneShoulder Neckline",
        ],
        "neck_design": ["Invisible", "Turtle Neck", "Ruffle Semi-High Collar", "Low Turtle Neck", "Draped Collar"],
    }
)


class RawRow(NamedTuple):
    """One row of a ``label.csv``; value ids are flat."""

    name: str
    attribute_id: int
    value_id: int
    maybe_ids: tuple[int, ...]
    letters: str
    line: int


def read_label_csv(path: Path, schema: AttributeSchema = SCHEMA) -> list[RawRow]:
    """Rows of a ``label.csv`` in file order.

    Raises:
        LabelFileError: not three fields, an unknown attribute or letter, a wrong number of letters, not exactly one
            ``y``, an image that comes twice, a path out of the data folder.
    """
    rows: dict[str, RawRow] = {}
    for number, line in filled_lines(path):
        fields = line.split(",")
        if len(fields) != 3:
            raise LabelFileError.at(path, number, f"expected path, attribute and letters, got {len(fields)} fields")
        name = safe_relative_path(fields[0].strip(), path, number)
        if name in rows:
            raise LabelFileError.at(path, number, f"{name!r} has a row already")
        rows[name] = _parse_letters(name, fields[1].strip(), fields[2].strip(), schema, path, number)
    if not rows:
        raise LabelFileError.at(path, None, "holds no rows")
    return list(rows.values())


def _parse_letters(name: str, attribute: str, letters: str, schema: AttributeSchema, path: Path, line: int) -> RawRow:
    try:
        attribute_id = schema.attribute_id(attribute.removesuffix(_FOLDER_OF_ATTRIBUTE))
    except ValueError as error:
        raise LabelFileError.at(path, line, str(error)) from None
    expected = schema.num_values[attribute_id]
    if letters == "?":
        raise LabelFileError.at(
            path, line, "'?' marks the contest's unlabelled questions; use the answer file instead"
        )
    if len(letters) != expected:
        raise LabelFileError.at(path, line, f"{attribute} takes {expected} letters, got {len(letters)}: {letters!r}")
    if unknown := sorted(set(letters) - set("ymn")):
        raise LabelFileError.at(path, line, f"letters must be y, m or n, got {unknown[0]!r} in {letters!r}")
    if letters.count("y") != 1:
        raise LabelFileError.at(path, line, f"expected exactly one y, got {letters.count('y')}: {letters!r}")
    offset = schema.offsets[attribute_id]
    maybe = tuple(offset + position for position, letter in enumerate(letters) if letter == "m")
    return RawRow(name, attribute_id, offset + letters.index("y"), maybe, letters, line)


@dataclass
class FashionAIConfig(RealConfig):
    """Options of FashionAI (see also :class:`~ipad_data.builders._real.RealConfig`).

    Args:
        maybe: What a letter ``m`` means for training: ``ignore`` keeps the sure value only; ``drop`` leaves the
            image out; ``also`` adds the possible values next to the sure one. Queries and gallery always keep their
            sure value, so results stay comparable, and the splits are the same for all three.

    Raises:
        ValueError: an option outside its choices.
    """

    maybe: str = "ignore"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maybe not in MAYBE:
            raise ValueError(f"maybe must be one of {', '.join(MAYBE)}, got {self.maybe!r}")


class FashionAI(RealDatasetBuilder):
    """Builder of FashionAI."""

    BUILDER_CONFIG_CLASS = FashionAIConfig
    VERSION = Version("1.3.0")  # raise it when the parser changes
    TITLE = "FashionAI"
    HOMEPAGE = "https://tianchi.aliyun.com/markets/tianchi/FashionAI"
    LICENSE = "The terms accepted on Tianchi; they do not let you pass the data on."
    CITATION = """@inproceedings{zou2019fashionai,
  title = {FashionAI: A Hierarchical Dataset for Fashion Understanding},
  author = {Zou, Xingxing and Kong, Xiangheng and Wong, Waikeung and Wang, Congde and Liu, Yuguang and Cao, Yang},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year = {2019},
}"""
    ANCHOR = "Images"
    SCHEMA = SCHEMA
    EXCLUSIVE = True
    KNOWN_COUNTS: ClassVar[dict[str, int]] = {"train": 144_000, "validation": 18_000, "test": 18_000}
    HOW_TO_GET = (
        "Apply for the FashionAI attribute data on Tianchi (tianchi.aliyun.com/markets/tianchi/FashionAI) and unpack "
        "fashionAI_attributes_train1.zip and train2.zip below this folder."
    )

    @classmethod
    def raw_files(cls, config: FashionAIConfig) -> list[Path]:
        """``label.csv`` of the folder and of archives unpacked up to two levels below it."""
        patterns = [
            f"{level}{name}" for level in ("", "*/", "*/*/") for name in ("label.csv", "Annotations/label.csv")
        ]
        found = {path.resolve(): path for pattern in patterns for path in sorted(config.folder.glob(pattern))}
        return sorted(found.values())

    def read_raw(self) -> RawLabels:
        rows = list(self.raw_rows().values())
        return RawLabels(
            [name for name, _ in rows], [(row.attribute_id,) for _, row in rows], [(row.value_id,) for _, row in rows]
        )

    def raw_rows(self) -> dict[str, tuple[str, RawRow]]:
        """Rows of all archives by the path below ``Images``, each with its name below the data folder.

        Raises:
            DatasetFilesNotFoundError: there is no ``label.csv``.
            LabelFileError: a file breaks its format, or two archives disagree about an image.
        """
        files = self.raw_files(self.config)
        if not files:
            looked = [self.config.folder / place for place in ("Annotations/label.csv", "*/Annotations/label.csv")]
            raise DatasetFilesNotFoundError.explain("label.csv of FashionAI", looked, self.HOW_TO_GET)
        rows: dict[str, tuple[str, RawRow]] = {}
        for path in files:
            folder = path.parent.parent if path.parent.name == "Annotations" else path.parent
            archive = folder.relative_to(self.config.folder).as_posix()
            for row in read_label_csv(path):
                name = row.name if archive == "." else f"{archive}/{row.name}"
                other = rows.setdefault(below_images(row.name), (name, row))[1]
                if other.letters != row.letters:
                    raise LabelFileError.at(
                        path,
                        row.line,
                        f"{row.name!r} is {row.letters!r} here but {other.letters!r} in another archive",
                    )
        return rows

    @staticmethod
    def attribute_of_path(name: str) -> str | None:
        """Attribute whose folder, ``<attribute>_labels``, an image lies in; None where it lies in no such folder."""
        folders = [part for part in name.split("/")[:-1] if part.endswith(_FOLDER_OF_ATTRIBUTE)]
        return folders[-1].removesuffix(_FOLDER_OF_ATTRIBUTE) if folders else None

    def compare_with_raw(self, splits: Mapping[str, Sequence[LabelledImage]], faults: Faults) -> None:
        if not self.raw_files(self.config) or self.schema.num_values != SCHEMA.num_values:
            return
        try:
            sure = {key: row.value_id for key, (_, row) in self.raw_rows().items()}
        except LabelFileError as error:
            self._warn(f"the labels were not compared with label.csv: {error}")
            return
        for split, images in splits.items():
            for image in images:
                value = sure.get(below_images(image.name))
                if value is not None and value not in image.value_ids:
                    faults.add(OTHER_THAN_RAW, f"{image.name} of {split}")

    def adapt_splits(self, splits: dict[str, list[LabelledImage]]) -> dict[str, list[LabelledImage]]:
        if self.config.maybe == "ignore" or "train" not in splits:
            return splits
        rows = self.raw_rows()
        maybe_ids = {key: row.maybe_ids for key, (_, row) in rows.items() if row.maybe_ids}
        if absent := [image.name for image in splits["train"] if below_images(image.name) not in rows]:
            raise DatasetFilesNotFoundError.explain(
                f"letters of {len(absent)} training images, e.g. {absent[0]}",
                self.raw_files(self.config),
                f"maybe={self.config.maybe!r} needs the raw label.csv of every training image; "
                "maybe='ignore' does without.",
            )
        train = []
        for image in splits["train"]:
            extra = maybe_ids.get(below_images(image.name), ())
            if not extra:
                train.append(image)
            elif self.config.maybe == "also":
                train.append(_with_values(image, extra))
        return {**splits, "train": train}


def below_images(name: str) -> str:
    """Path below the last folder called ``Images``: what names an image whatever archive it is in."""
    head, found, tail = name.rpartition("Images/")
    return tail if found and (not head or head.endswith("/")) else name


def _with_values(image: LabelledImage, extra: tuple[int, ...]) -> LabelledImage:
    added = tuple(value for value in extra if value not in image.value_ids)
    return image._replace(
        attribute_ids=image.attribute_ids + image.attribute_ids[:1] * len(added),
        value_ids=image.value_ids + added,
        roles=image.roles + (TRAIN,) * len(added),
    )
