"""Folders named after values as a table: ``VALUE/*.jpg`` of one attribute, ``ATTRIBUTE/VALUE/*.jpg`` of several.

Both may lie in folders called ``train``, ``validation`` (``val``, ``valid``) and ``test``, which then give the split. The
depth decides, and it must be the same everywhere: images in one level of folders are named after values, images in two
levels after attribute and value. Files and folders whose names begin with ``.`` or ``__`` do not count.
"""

from __future__ import annotations

import filecmp
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from ipad_data.errors import DatasetFilesNotFoundError, DataWarning, LabelFileError
from ipad_data.image_tree import ImageTree
from ipad_data.roles import SPLIT_NAMES
from ipad_data.tables.label_table import LabelTable, TableRow


class _Labelled(NamedTuple):
    """An image file and what its folders say."""

    relative: str
    split: str | None
    attribute: str
    value: str


def read_value_folders(folder: Path, label_name: str = "label", attributes: Sequence[str] | None = None) -> LabelTable:
    """Labels by the names of folders.

    A photo that lies in several folders, under the same name and with the same content, is one image with several
    labels. One that lies in several splits so is warned about.

    Args:
        folder: The outermost folder; where all of its images are below ``images``, that one.
        label_name: Name of the attribute where folders are named after values only.
        attributes: Folders that are attributes; all when None.

    Raises:
        DatasetFilesNotFoundError: no images in folders.
        LabelFileError: it cannot be told what the folders stand for; a link that leads out of the folder.
    """
    tree = ImageTree(folder, "")
    if tree.outside:
        links = ", ".join(sorted(tree.outside)[:3])
        raise LabelFileError.at(folder, None, f"{len(tree.outside)} links lead out of the folder, e.g. {links}")
    paths = [path for path in tree.files if not any(part.startswith((".", "__")) for part in path.split("/"))]
    if paths and all(path.startswith("images/") for path in paths):
        return read_value_folders(folder / "images", label_name, attributes)
    if not any("/" in path for path in paths):
        raise DatasetFilesNotFoundError.explain(
            "a table of labels, or folders of images named after values,",
            [folder / "labels.csv", folder / "metadata.csv", folder / "VALUE", folder / "ATTRIBUTE" / "VALUE"],
            "A table may be CSV, JSON lines or Parquet; table=... names it.",
        )
    labelled = _label(folder, paths, label_name)
    names = list(dict.fromkeys(image.attribute for image in labelled))
    if unknown := [name for name in attributes or () if name not in names]:
        near = get_close_matches(unknown[0], names) or names
        raise LabelFileError.at(folder, None, f"no folder {unknown[0]!r}; did you mean one of: {', '.join(near)}?")
    chosen = tuple(names if attributes is None else attributes)
    rows = [_row(folder, group) for group in _same_photos(folder, [i for i in labelled if i.attribute in chosen])]
    return LabelTable(folder, chosen, rows, tuple(name for name in names if name not in chosen))


def _label(folder: Path, paths: Sequence[str], label_name: str) -> list[_Labelled]:
    tops = sorted({path.split("/")[0] for path in paths if "/" in path})
    splits = [top for top in tops if top.lower() in SPLIT_NAMES]
    if splits and len(splits) < len(tops):
        other = next(top for top in tops if top not in splits)
        raise LabelFileError.at(
            folder,
            None,
            f"the folder {splits[0]!r} stands for a split and {other!r} beside it does not; "
            "put all images below train, validation and test, or none",
        )
    labelled, examples = [], {}
    for path in paths:
        *folders, _ = path.split("/")
        split = SPLIT_NAMES[folders.pop(0).lower()] if splits and folders else None
        examples.setdefault(len(folders), path)
        attribute, value = folders if len(folders) == 2 else (label_name, "".join(folders))
        labelled.append(_Labelled(path, split, attribute, value))
    if len(examples) > 1 or not examples.keys() <= {1, 2}:
        seen = ", ".join(f"{path!r}" for _, path in sorted(examples.items()))
        below = " below train, validation and test" if splits else ""
        raise LabelFileError.at(
            folder,
            None,
            f"expected all images in VALUE/ or all in ATTRIBUTE/VALUE/{below}, got e.g. {seen}; "
            "move them, or write a table of labels",
        )
    return labelled


def _same_photos(folder: Path, labelled: Sequence[_Labelled]) -> list[list[_Labelled]]:
    """Images grouped by photo: the same split, file name and content."""
    groups: dict[tuple[str | None, str], list[list[_Labelled]]] = {}
    for image in labelled:
        named_alike = groups.setdefault((image.split, image.relative.rsplit("/", 1)[-1]), [])
        for group in named_alike:
            if filecmp.cmp(folder / image.relative, folder / group[0].relative, shallow=False):
                group.append(image)
                break
        else:
            named_alike.append([image])
    _warn_of_repeats(folder, groups)
    return [group for named_alike in groups.values() for group in named_alike]


def _warn_of_repeats(folder: Path, groups: Mapping[tuple[str | None, str], Sequence[Sequence[_Labelled]]]) -> None:
    """Warn about photos, by name and content, that are in more than one split."""
    splits: dict[str, list[_Labelled]] = {}
    for (_, name), named_alike in groups.items():
        splits.setdefault(name, []).extend(group[0] for group in named_alike)
    repeats = [
        f"{one.relative} and {other.relative}"
        for alike in splits.values()
        for one, other in combinations(alike, 2)
        if one.split != other.split and filecmp.cmp(folder / one.relative, folder / other.relative, shallow=False)
    ]
    if repeats:
        note = f"{len(repeats)} photos are in more than one split, e.g. {'; '.join(repeats[:3])}"
        warnings.warn(f"{folder}: {note}", DataWarning, stacklevel=2)


def _row(folder: Path, images: Sequence[_Labelled]) -> TableRow:
    values: dict[str, tuple[str, ...]] = {}
    for image in images:
        values[image.attribute] = (*values.get(image.attribute, ()), image.value)
    first = images[0]
    return TableRow(str(folder / first.relative), folder, first.relative, values, first.split)
