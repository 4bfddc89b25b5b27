"""What the folder of each dataset should look like, and which dataset a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ipad_data.builders._photos import PhotoBuilder
from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import find_split_folder
from ipad_data.builders.ccp import CCP
from ipad_data.builders.darn import DARN
from ipad_data.builders.deepfashion import DeepFashion
from ipad_data.builders.fashionai import FashionAI
from ipad_data.builders.table import Table
from ipad_data.ccp_files import IMAGE_LEVEL, LABEL_LIST, PHOTOS, PIXEL_LEVEL
from ipad_data.image_tree import IMAGE_SUFFIXES
from ipad_data.label_files import SPLITS, split_file_paths
from ipad_data.label_text import filled_lines
from ipad_data.prepared import is_prepared
from ipad_data.roles import SPLIT_NAMES
from ipad_data.tables.table_files import TABLE_SUFFIXES

REAL_BUILDERS: dict[str, type[RealDatasetBuilder]] = {
    "fashionai": FashionAI,
    "darn": DARN,
    "deepfashion": DeepFashion,
}
PHOTO_BUILDERS: dict[str, type[PhotoBuilder]] = {"ccp": CCP, "table": Table}
_NAMES = (*REAL_BUILDERS, "ccp", "clothing-co-parsing")
_LISTING_LIMIT = 2000
_TABLES = (
    *(f"*{suffix}" for suffix in TABLE_SUFFIXES),
    *(f"{split}/metadata{suffix}" for split in SPLIT_NAMES for suffix in TABLE_SUFFIXES),
)
_LABELLED_BY_FOLDERS = ("*/*", "*/*/*", "*/*/*/*")


class TreeLine(NamedTuple):
    """One expected file or folder: glob patterns of which one must match, and what it is for."""

    patterns: tuple[str, ...]
    purpose: str
    shown: str


_SPLIT_FILES = (
    TreeLine(("filenames_*.txt", "*/filenames_*.txt"), "published: image paths", "filenames_{train,valid,test}.txt"),
    TreeLine(("label_train.txt", "*/label_train.txt"), "published: training labels", "label_train.txt"),
    TreeLine(("query_*.txt", "*/query_*.txt"), "published: queries", "query_{valid,test}.txt"),
    TreeLine(("candidate_*.txt", "*/candidate_*.txt"), "published: gallery", "candidate_{valid,test}.txt"),
    TreeLine(("meta.json", "../meta.json"), "published: names of attributes (here or one folder above)", "meta.json"),
)
EXPECTED: dict[str, tuple[TreeLine, ...]] = {
    "fashionai": (
        *_SPLIT_FILES,
        TreeLine(
            ("label.csv", "Annotations/label.csv", "*/Annotations/label.csv", "*/*/Annotations/label.csv"),
            "random, and maybe=: letters of every image, in one or several archives",
            "[ARCHIVE/]Annotations/label.csv",
        ),
        TreeLine(
            ("Images/*_labels", "*/Images/*_labels", "*/*/Images/*_labels"),
            "images",
            "[ARCHIVE/]Images/ATTRIBUTE_labels/*.jpg",
        ),
    ),
    "darn": (
        *_SPLIT_FILES,
        TreeLine(
            ("label*.txt", "list_attr.txt", "annotations.txt", "attributes.txt"),
            "random: image name and nine value ids a line",
            "label.txt",
        ),
        TreeLine(("*url*.txt", "*/*url*.txt"), "optional: image name and link a line", "darn_url.txt"),
        TreeLine(("pic", "*/pic"), "images (a part is enough)", "pic/*.jpg"),
    ),
    "deepfashion": (
        *_SPLIT_FILES,
        *(
            TreeLine(
                tuple(
                    f"{top}{folder}{name}" for top in ("", "*/") for folder in ("Anno_coarse/", "Anno/", "Eval/", "")
                ),
                purpose,
                f"{folder}/{name}",
            )
            for folder, name, purpose in (
                ("Anno_coarse", "list_attr_cloth.txt", "random, official: names of the 1000 attributes (or in Anno/)"),
                ("Anno_coarse", "list_attr_img.txt", "random, official: labels of every image"),
                ("Anno_coarse", "list_bbox.txt", "optional: boxes for crop=True"),
                ("Eval", "list_eval_partition.txt", "official: train, val or test"),
            )
        ),
        TreeLine(("img", "Img/img", "*/img"), "images, low resolution", "img/**/*.jpg"),
    ),
    "ccp": (
        TreeLine((PHOTOS,), "images", "photos/*.jpg"),
        TreeLine((LABEL_LIST,), "names of the labels", "label_list.mat"),
        TreeLine((IMAGE_LEVEL,), "tags of photos", "annotations/image-level/*.mat"),
        TreeLine((PIXEL_LEVEL,), "labels of pixels, and true boxes", "annotations/pixel-level/*.mat"),
    ),
    "table": (
        TreeLine(
            _TABLES,
            "a column of image names, a column per attribute (or folders named after values)",
            "labels.csv, ...",
        ),
        TreeLine(
            ("*/", *(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))),
            "images, in the folder itself or below it",
            "images/*.jpg, [ATTRIBUTE/]VALUE/*.jpg",
        ),
    ),
    "prepared": (
        TreeLine(("prepared.json",), "what was prepared", "prepared.json"),
        TreeLine(("data/*-of-*.parquet",), "images and labels", "data/*.parquet"),
    ),
    "rendered": (
        *_SPLIT_FILES,
        TreeLine(("boxes.jsonl",), "true boxes of the attributes' regions", "boxes.jsonl"),
        TreeLine(("Images",), "images", "Images/*/*.jpg"),
    ),
}


def recognise(folder: Path) -> list[tuple[str, Path]]:
    """Datasets that a folder holds, each with its own folder: subfolders called after them, the folder itself, or
    subfolders called otherwise. Where none is recognised, images in folders are taken for folders named after values.
    """
    children = sorted(child for child in folder.iterdir() if child.is_dir())
    named = [child for child in children if child.name.lower() in _NAMES]
    for places in (named, [folder], children):
        found = [(name, place) for place in places if (name := _recognise_one(place)) is not None]
        if found:
            return found
    images = (path for pattern in _LABELLED_BY_FOLDERS for path in folder.glob(pattern))
    return [("table", folder)] if any(path.suffix.lower() in IMAGE_SUFFIXES for path in images) else []


def _recognise_one(folder: Path) -> str | None:
    named = folder.name.lower()
    if is_prepared(folder):
        return "prepared"
    if _holds(folder, "boxes.jsonl"):
        return "rendered"
    if _holds(folder, LABEL_LIST, IMAGE_LEVEL, PIXEL_LEVEL):
        return "ccp"
    if _holds(folder, "list_attr_img.txt", "Anno*/list_attr_*.txt", "Anno/Anno_*/list_attr_*.txt"):
        return "deepfashion"
    if _holds(folder, "Annotations/label.csv", "*/Annotations/label.csv", "*/*/Annotations/label.csv"):
        return "fashionai"
    found = [places for name in REAL_BUILDERS if (places := find_split_folder(folder, name)) is not None]
    if found:
        return named if named in REAL_BUILDERS else _by_image_names(found[0].folder)
    if _holds(folder, "Images/*_labels", "*/Images/*_labels"):
        return "fashionai"
    if _holds(folder, "pic", "darn_url*.txt") or named == "darn":
        return "darn"
    if _holds(folder, "Anno_coarse", "Anno_fine", "Img/img", "img"):
        return "deepfashion"
    if _holds(folder, "label.csv"):
        return "fashionai"
    return "table" if _holds(folder, *_TABLES) else None


def _holds(folder: Path, *patterns: str) -> bool:
    """Whether anything matches. No pattern goes deep: image folders are large."""
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def _by_image_names(folder: Path) -> str:
    """Dataset of split files, by the first paths that they name."""
    for split in SPLITS:
        path = split_file_paths(folder, split)["filenames"]
        if path.is_file():
            for number, line in filled_lines(path):
                if "_labels/" in line:
                    return "fashionai"
                if line.startswith("img/") or "/img/" in line:
                    return "deepfashion"
                if number > _LISTING_LIMIT:
                    break
    return "darn"


def compare_tree(folder: Path, dataset: str) -> list[tuple[TreeLine, list[Path]]]:
    """Each expected line with what there is of it."""
    return [
        (line, sorted({path for pattern in line.patterns for path in folder.glob(pattern)}))
        for line in EXPECTED[dataset]
    ]
