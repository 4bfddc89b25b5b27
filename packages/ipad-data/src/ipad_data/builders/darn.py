"""DARN: clothing from online shops with nine attributes (Huang et al. 2015), as the field uses it.

The images are given as links, of which many are dead, so a partial set is the normal case. The raw annotation is a
list of lines ``<image name> <nine value ids>``; ``-1`` stands for "not labelled".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datasets import Version

from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import RealConfig
from ipad_data.errors import DatasetFilesNotFoundError, LabelFileError
from ipad_data.image_tree import ImageTree
from ipad_data.label_files import RawLabels
from ipad_data.label_text import filled_lines, parse_int, safe_relative_path
from ipad_data.schema import AttributeSchema

_NUM_VALUES = {
    "clothes_category": 20,
    "clothes_button": 13,
    "clothes_color": 55,
    "clothes_length": 7,
    "clothes_pattern": 28,
    "clothes_shape": 11,
    "collar_shape": 26,
    "sleeve_length": 8,
    "sleeve_shape": 17,
}
SCHEMA = AttributeSchema(
    {attribute: [str(value) for value in range(count)] for attribute, count in _NUM_VALUES.items()}
)
_ANNOTATIONS = ("label.txt", "labels.txt", "list_attr.txt", "annotations.txt", "attributes.txt")
_URLS = ("darn_url.txt", "urls.txt", "url.txt", "url_list.txt", "image_urls.txt")


def read_attribute_list(path: Path, schema: AttributeSchema = SCHEMA) -> RawLabels:
    """Labels of a list with one image a line: its name and a value id for each attribute, ``-1`` for none.

    Raises:
        LabelFileError: a line with too few or too many fields, a value id out of range, an image that comes twice.
    """
    labels = RawLabels([], [], [])
    first_line: dict[str, int] = {}
    count = len(schema.attributes)
    for number, line in filled_lines(path):
        fields = line.rsplit(None, count)
        if len(fields) != count + 1:
            raise LabelFileError.at(path, number, f"expected an image name and {count} value ids, got {line[:80]!r}")
        name = safe_relative_path(fields[0], path, number)
        if name in first_line:
            raise LabelFileError.at(path, number, f"{name!r} was on line {first_line[name]} already")
        first_line[name] = number
        pairs = []
        for attribute_id, text in enumerate(fields[1:]):
            local = parse_int(text, f"value id of {schema.attributes[attribute_id]}", path, number)
            if local == -1:
                continue
            try:
                pairs.append((attribute_id, schema.flat_value_id(attribute_id, local)))
            except ValueError as error:
                raise LabelFileError.at(path, number, f"{error} (-1 stands for not labelled)") from None
        if pairs:
            labels.names.append(name)
            labels.attribute_ids.append(tuple(attribute_id for attribute_id, _ in pairs))
            labels.value_ids.append(tuple(value_id for _, value_id in pairs))
    return labels._replace(unlabelled=len(first_line) - len(labels.names))


class UrlList(NamedTuple):
    """The link of each image; ``repeated`` counts lines whose image had a line before (the first one is kept)."""

    urls: dict[str, str]
    repeated: int


def read_url_list(path: Path) -> UrlList:
    """Links of images: lines ``<image name> <url>``. Repeated names are usual there and are counted, not refused.

    Raises:
        LabelFileError: a line without a link, a name out of the data folder.
    """
    urls: dict[str, str] = {}
    repeated = 0
    for number, line in filled_lines(path):
        name, _, url = line.rpartition(" ") if "\t" not in line else line.rpartition("\t")
        if not name or not url.startswith(("http://", "https://", "//")):
            raise LabelFileError.at(path, number, f"expected an image name and its URL, got {line[:80]!r}")
        name = safe_relative_path(name.strip(), path, number)
        repeated += name in urls
        urls.setdefault(name, url)
    return UrlList(urls, repeated)


class UrlCoverage(NamedTuple):
    """How far a partial image set goes: links, links whose image is there, lines that repeat a name."""

    links: int
    found: int
    repeated: int


@dataclass
class DARNConfig(RealConfig):
    """Options of DARN (see also :class:`~ipad_data.builders._real.RealConfig`).

    Args:
        annotations: Name of the raw annotation file below ``data_dir``, where it is not one of the usual names.
    """

    annotations: str | None = None


class DARN(RealDatasetBuilder):
    """Builder of DARN."""

    BUILDER_CONFIG_CLASS = DARNConfig
    VERSION = Version("1.3.0")  # raise it when the parser changes
    TITLE = "DARN"
    HOMEPAGE = "https://github.com/Maryeon/asen"
    LICENSE = (
        "None comes with the list of links; the photos belong to their shops. Research only, do not pass them on."
    )
    CITATION = """@inproceedings{huang2015cross,
  title = {Cross-Domain Image Retrieval with a Dual Attribute-Aware Ranking Network},
  author = {Huang, Junshi and Feris, Rogerio S. and Chen, Qiang and Yan, Shuicheng},
  booktitle = {IEEE International Conference on Computer Vision},
  year = {2015},
}"""
    ANCHOR = "pic"
    SCHEMA = SCHEMA
    EXCLUSIVE = True
    HOW_TO_GET = (
        "DARN is a list of links (github.com/Maryeon/asen names one, darn_url.txt); many are dead, so load "
        "the images you could get with missing_images='skip'."
    )

    @classmethod
    def raw_files(cls, config: DARNConfig) -> list[Path]:
        names = _ANNOTATIONS if config.annotations is None else (config.annotations,)
        return [path for path in cls._places(config, names) if path.is_file()][:1]

    @classmethod
    def _places(cls, config: RealConfig, names: tuple[str, ...]) -> list[Path]:
        return [place / name for place in (config.folder, config.folder / cls.TITLE) for name in names]

    def read_raw(self) -> RawLabels:
        files = self.raw_files(self.config)
        if not files:
            looked = self._places(self.config, _ANNOTATIONS)
            raise DatasetFilesNotFoundError.explain("annotation list of DARN", looked, self.HOW_TO_GET)
        return read_attribute_list(files[0])

    def url_coverage(self) -> UrlCoverage | None:
        """How many of the URL list's images are there; ``None`` where there is no list."""
        path = next((path for path in self._places(self.config, _URLS) if path.is_file()), None)
        if path is None:
            return None
        urls = read_url_list(path)
        tree = ImageTree(self.config.image_folder, self.ANCHOR)
        return UrlCoverage(len(urls.urls), sum(tree.find(name) is not None for name in urls.urls), urls.repeated)
