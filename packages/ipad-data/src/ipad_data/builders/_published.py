"""Published split files: read, and compared with what is known of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from ipad_data.builders._real_config import SplitFolder
from ipad_data.errors import DataWarning
from ipad_data.faults import Faults
from ipad_data.label_files import LabelledImage, read_splits
from ipad_data.roles import SPLITS
from ipad_data.schema import AttributeSchema

_MAY_DIFFER = 0.01  # share by which a split may differ from its known size, which is rounded


def read_published(
    found: SplitFolder, title: str, schema: AttributeSchema, faults: Faults, known_counts: Mapping[str, int]
) -> dict[str, list[LabelledImage]]:
    """Splits of a folder of split files. Warns about splits that are not there, or have another size than is known.

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
