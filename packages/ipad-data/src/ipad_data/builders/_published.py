"""Published split files: read, and compared with what is known of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ipad_data.builders._real_config import SplitFolder
from ipad_data.errors import DataWarning
from ipad_data.faults import Faults
from ipad_data.label_files import LabelledImage, read_filenames, read_splits, split_file_paths
from ipad_data.roles import ROLES, SPLITS
from ipad_data.schema import AttributeSchema

_MAY_DIFFER = 0.01  # share by which a split may differ from its known size, which is rounded


def read_published(
    found: SplitFolder, title: str, schema: AttributeSchema, faults: Faults, known_counts: Mapping[str, int]
) -> dict[str, list[LabelledImage]]:
    """Splits of a folder of split files. Warns about splits that are not there or have another size than is known, about
    images without a label and label files without an entry.

    Args:
        found: The folder.
        title: Name of the dataset, for messages.
        schema: Attributes and values.
        faults: Where repeated entries are noted.
        known_counts: About how many images each split has; empty where that is not known.

    Raises:
        DatasetFilesNotFoundError: a file of a split is missing.
        LabelFileError: a file breaks its format.
    """
    splits = read_splits(found.folder, schema, faults=faults)
    for note in (*_without_entries(found.folder, splits), *_unlabelled(found.folder, splits)):
        warnings.warn(note, DataWarning, stacklevel=3)
    if absent := [split for split in SPLITS if split not in splits]:
        warnings.warn(f"{found.folder}: no split files of {' and '.join(absent)}", DataWarning, stacklevel=3)
    differ = [
        f"{split} {len(splits[split])} instead of about {known}"
        for split, known in known_counts.items()
        if split in splits and abs(len(splits[split]) - known) > _MAY_DIFFER * known
    ]
    if differ:
        note = f"not the splits of {title} as they were published: {', '.join(differ)} labelled images"
        warnings.warn(f"{found.folder}: {note}", DataWarning, stacklevel=3)
    return splits


def _unlabelled(folder: Path, splits: Mapping[str, Sequence[LabelledImage]]) -> Iterator[str]:
    """Images that a filenames file names and no label file has an entry of."""
    for split, images in splits.items():
        path = split_file_paths(folder, split)["filenames"]
        names = read_filenames(path)
        labelled = {image.image_id for image in images}
        if bare := [f"{path.name}:{i + 1} {name}" for i, name in enumerate(names) if name and i not in labelled]:
            yield f"{folder}: {len(bare)} of {len(names)} images have no label and are left out, e.g. {bare[0]}"


def _without_entries(folder: Path, splits: Mapping[str, Sequence[LabelledImage]]) -> Iterator[str]:
    """Label files that hold nothing, as a copy that was cut off."""
    for split, images in splits.items():
        roles = {role for image in images for role in image.roles}
        for role, path in split_file_paths(folder, split).items():
            if role != "filenames" and ROLES.index(role) not in roles:
                yield f"{path}: holds no entries"
