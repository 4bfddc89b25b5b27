"""The field's split files, which ASEN published and later work reuses: read, checked and written.

=============================  ==============================================================================
``filenames_{split}.txt``      one relative image path a line; the 0-based line number is the image id
``label_train.txt``            ``image_id (attribute_id value_id)+``
``query_{split}.txt``          ``image_id attribute_id value_id``, ids of that split's ``filenames`` file
``candidate_{split}.txt``      the same, for the gallery
``meta.json``                  attributes and their numbers of values, nested by dataset or not, with names or not
=============================  ==============================================================================

The splits are called ``train``, ``valid`` and ``test`` in file names. Value ids in the files count within an
attribute; in memory they are flat (see :class:`~ipad_data.schema.AttributeSchema`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ipad_data.errors import DatasetFilesNotFoundError, LabelFileError
from ipad_data.faults import Faults
from ipad_data.label_text import filled_lines, numbered_lines, parse_int, safe_relative_path
from ipad_data.roles import ROLES, SPLIT_NAMES, SPLITS
from ipad_data.schema import AttributeSchema

_FILE_SUFFIX = {"train": "train", "validation": "valid", "test": "test"}
TWO_LINES = "lines are of an image that had a line before; their labels are taken together"
REPEATED = "lines repeat an image's attribute and value, which count once"
_HOW = (
    "The split files are part of ASEN's release (github.com/Maryeon/asen, data/). Without them, "
    "load with protocol='random' from the raw annotations; `ipad-data doctor DIR` shows the expected tree."
)


class LabelledImage(NamedTuple):
    """One image of a split with its entries, as three parallel tuples.

    Attributes:
        name: Relative POSIX path, as the label file has it.
        image_id: 0-based line number in the split's filenames file.
        attribute_ids: Attribute of each entry.
        value_ids: Flat value id of each entry.
        roles: What each entry is for, an index into :data:`~ipad_data.roles.ROLES`.
    """

    name: str
    image_id: int
    attribute_ids: tuple[int, ...]
    value_ids: tuple[int, ...]
    roles: tuple[int, ...]


class RawLabels(NamedTuple):
    """Labels before they are divided into splits, as parallel lists over images.

    Attributes:
        names: Relative path of each image.
        attribute_ids: Attributes of each image's entries.
        value_ids: Flat value ids, parallel to ``attribute_ids``.
        unlabelled: How many images have no label and were left out.
    """

    names: list[str]
    attribute_ids: list[tuple[int, ...]]
    value_ids: list[tuple[int, ...]]
    unlabelled: int = 0


class Entry(NamedTuple):
    """One (image, attribute, value) of a label file; ``value_id`` is flat."""

    image_id: int
    attribute_id: int
    value_id: int


def read_filenames(path: Path) -> list[str]:
    """Relative image paths of a filenames file; the position is the image id.

    A blank line counts as an image without a name (``""``), so that it never shifts the ids that follow.

    Raises:
        LabelFileError: a path that could leave the data folder, or no path at all.
    """
    names = [safe_relative_path(line, path, number) if line else "" for number, line in numbered_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise LabelFileError.at(path, None, "holds no image paths")
    return names


def read_train_labels(
    path: Path, names: Sequence[str], schema: AttributeSchema, faults: Faults | None = None
) -> list[Entry]:
    """Entries of a ``label_train.txt``: one line an image, one or more (attribute, value) pairs on it.

    Args:
        path: The file.
        names: Image paths by id.
        schema: Attributes and values.
        faults: Where a pair or an image that comes twice is noted, to be taken once; an error when None.

    Raises:
        LabelFileError: a line that is no id and pairs, an id out of range, an image or a pair that comes twice.
    """
    entries: list[Entry] = []
    first_line: dict[int, int] = {}
    for number, line in filled_lines(path):
        fields = [parse_int(field, "each field", path, number) for field in line.split()]
        if len(fields) < 3 or len(fields) % 2 == 0:
            raise LabelFileError.at(
                path, number, f"expected an image id and pairs of attribute id and value id, got {line[:80]!r}"
            )
        image_id = fields[0]
        if image_id in first_line:
            if faults is None:
                raise LabelFileError.at(
                    path, number, f"image id {image_id} was on line {first_line[image_id]} already"
                )
            faults.add(TWO_LINES, f"{path.name}:{number}, first on line {first_line[image_id]}")
        first_line.setdefault(image_id, number)
        pairs = list(zip(fields[1::2], fields[2::2], strict=True))
        if len(set(pairs)) != len(pairs):
            if faults is None:
                raise LabelFileError.at(path, number, f"an (attribute, value) pair comes twice: {line[:80]!r}")
            faults.add(REPEATED, f"{path.name}:{number}")
            pairs = list(dict.fromkeys(pairs))
        entries += [_entry(image_id, *pair, names, schema, path, number) for pair in pairs]
    return list(dict.fromkeys(entries))


def read_entries(
    path: Path, names: Sequence[str], schema: AttributeSchema, faults: Faults | None = None
) -> list[Entry]:
    """Entries of a ``query_*.txt`` or ``candidate_*.txt``, in file order.

    Args:
        path: The file.
        names: Image paths by id.
        schema: Attributes and values.
        faults: Where an entry that comes twice is noted, to be taken once; an error when None.

    Raises:
        LabelFileError: a line without exactly three integers, an id out of range, an entry that comes twice.
    """
    entries: dict[Entry, int] = {}
    for number, line in filled_lines(path):
        fields = line.split()
        if len(fields) != 3:
            raise LabelFileError.at(
                path, number, f"expected image id, attribute id and value id, got {len(fields)} fields: {line[:80]!r}"
            )
        image_id, attribute_id, local = (parse_int(field, "each field", path, number) for field in fields)
        entry = _entry(image_id, attribute_id, local, names, schema, path, number)
        if entry in entries:
            if faults is None:
                raise LabelFileError.at(path, number, f"{line!r} was on line {entries[entry]} already")
            faults.add(REPEATED, f"{path.name}:{number}")
        entries.setdefault(entry, number)
    return list(entries)


def _entry(
    image_id: int, attribute_id: int, local: int, names: Sequence[str], schema: AttributeSchema, path: Path, line: int
) -> Entry:
    if not 0 <= image_id < len(names):
        raise LabelFileError.at(path, line, f"image id must be within [0, {len(names)}), got {image_id}")
    if not names[image_id]:
        raise LabelFileError.at(path, line, f"image id {image_id} is a blank line of the filenames file")
    try:
        return Entry(image_id, attribute_id, schema.flat_value_id(attribute_id, local))
    except ValueError as error:
        raise LabelFileError.at(path, line, str(error)) from None


def split_file_paths(folder: Path, split: str) -> dict[str, Path]:
    """Paths of a split's files: ``"filenames"`` and one for each of its roles."""
    suffix = _FILE_SUFFIX[split]
    paths = {"filenames": folder / f"filenames_{suffix}.txt"}
    if split == "train":
        return {**paths, "train": folder / "label_train.txt"}
    return {**paths, "query": folder / f"query_{suffix}.txt", "gallery": folder / f"candidate_{suffix}.txt"}


def read_split(folder: Path, split: str, schema: AttributeSchema, faults: Faults | None = None) -> list[LabelledImage]:
    """Images of one split that have at least one entry, in the order of their ids.

    Args:
        folder: Where its files are.
        split: One of :data:`~ipad_data.roles.SPLITS`.
        schema: Attributes and values.
        faults: Where entries that come twice are noted; an error when None.

    Raises:
        DatasetFilesNotFoundError: one of the split's files is missing.
        LabelFileError: see :func:`read_filenames`, :func:`read_train_labels`, :func:`read_entries`.
    """
    paths = split_file_paths(folder, split)
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise DatasetFilesNotFoundError.explain(", ".join(path.name for path in missing), missing, _HOW)
    names = read_filenames(paths["filenames"])
    by_role = {
        role: (read_train_labels if role == "train" else read_entries)(path, names, schema, faults)
        for role, path in paths.items()
        if role != "filenames"
    }
    return labelled_images(names, by_role)


def labelled_images(names: Sequence[str], by_role: Mapping[str, Iterable[Entry]]) -> list[LabelledImage]:
    """Group entries by image; images without an entry are left out, ids stay."""
    grouped: dict[int, list[tuple[int, int, int]]] = {}
    for role, entries in by_role.items():
        for image_id, attribute_id, value_id in entries:
            grouped.setdefault(image_id, []).append((attribute_id, value_id, ROLES.index(role)))
    return [
        LabelledImage(names[image_id], image_id, *zip(*grouped[image_id], strict=True)) for image_id in sorted(grouped)
    ]


def available_splits(folder: Path) -> list[str]:
    """Splits of which the folder holds a filenames file."""
    return [split for split in SPLITS if split_file_paths(folder, split)["filenames"].is_file()]


def read_splits(
    folder: str | Path,
    schema: AttributeSchema,
    splits: Sequence[str] | None = None,
    faults: Faults | None = None,
) -> dict[str, list[LabelledImage]]:
    """All splits that a folder of split files holds, or the ones asked for.

    Args:
        folder: Where the files are.
        schema: Attributes and values.
        splits: Splits to read; those of which there is any file when None.
        faults: Where entries that come twice are noted; an error when None.

    Raises:
        DatasetFilesNotFoundError: no split at all, or a file of a split is missing or has another name.
        LabelFileError: a file breaks its format.
    """
    folder = Path(folder)
    found = list(splits) if splits is not None else _begun_splits(folder)
    if not found:
        looked = [split_file_paths(folder, split)["filenames"] for split in SPLITS]
        raise DatasetFilesNotFoundError.explain("split files", looked, _HOW)
    return {split: read_split(folder, split, schema, faults) for split in found}


def _begun_splits(folder: Path) -> list[str]:
    """Splits of which the folder holds any file, also under a name that is nearly right."""
    for alias, split in SPLIT_NAMES.items():
        for right in split_file_paths(folder, split).values():
            wrong = right.with_stem(f"{right.stem.rpartition('_')[0]}_{alias}")
            if wrong != right and wrong.is_file() and not right.is_file():
                how = f"Rename {wrong.name} to {right.name}, and other files of the split likewise."
                raise DatasetFilesNotFoundError.explain(right.name, [right], how)
    return [split for split in SPLITS if any(path.is_file() for path in split_file_paths(folder, split).values())]
