"""Examination of a folder of photos with a table of labels."""

from __future__ import annotations

import warnings

from ipad_data.builders._real import SplitCoverage
from ipad_data.builders._table_config import TableConfig
from ipad_data.builders.table import Table
from ipad_data.doctor.diagnosis import Diagnosis, ProtocolReport, count_values, few
from ipad_data.image_check import unreadable_images
from ipad_data.image_tree import ImageTree
from ipad_data.label_files import LabelledImage
from ipad_data.roles import QUERY


def examine_table(diagnosis: Diagnosis, read_images: bool, workers: int | None, progress: bool) -> None:
    """Fill in the diagnosis of a table of photos."""
    tree = ImageTree(diagnosis.folder, "images")
    diagnosis.images, diagnosis.outside = len(tree.files), sorted(tree.outside)
    report = ProtocolReport("table", "The table")
    diagnosis.protocols = [report]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            named = _examine_labels(diagnosis, report)
        diagnosis.notes += [str(warning.message) for warning in caught]
        unnamed = sorted(relative for relative, path in tree.files.items() if path not in named)
        if unnamed:
            diagnosis.notes.append(f"{len(unnamed)} image files are not in the table: {few(unnamed)}")
    except (ValueError, OSError) as error:
        report.problem = str(error)
    if read_images:
        diagnosis.unreadable = unreadable_images(sorted(tree.files.values()), workers, progress)
    diagnosis.advice = _advice(diagnosis, report)


def _examine_labels(diagnosis: Diagnosis, report: ProtocolReport) -> set[str]:
    """Fill in coverage, values and splits; returns the real paths of the images that the table names."""
    reader = Table.without_cache(TableConfig(data_dir=str(diagnosis.folder)))
    found, absent = reader.locate_images()
    report.coverage["table"] = SplitCoverage(len(found) + len(absent), len(found), [row.image for row in absent])
    labelled = [(row, path) for row, path in found if row.values]
    splits = reader.divide(labelled) if labelled else {}
    images = [image for members in splits.values() for image in members]
    report.attributes["table"] = count_values(images, reader.schema)
    if len(labelled) < len(found):
        diagnosis.notes.append(f"{len(found) - len(labelled)} images have no label and are left out")
    given = "given by the table" if labelled and labelled[0][0].split is not None else "drawn"
    diagnosis.notes.append(f"Splits, {given}: " + ", ".join(_split_text(*item) for item in splits.items()))
    return {str(path.resolve()) for _, path in found}


def _split_text(split: str, images: list[LabelledImage]) -> str:
    queries = sum(QUERY in image.roles for image in images)
    return f"{split} {len(images)}" + (f" ({queries} queries)" if split != "train" else "")


def _advice(diagnosis: Diagnosis, report: ProtocolReport) -> list[str]:
    if report.problem is not None:
        return ["Mend the table as said above, and run this again."]
    steps, option = [], ""
    if report.coverage["table"].missing:
        option = ", missing='skip'"
        steps.append(
            "Images are missing: put them there, or correct their names in the table; missing='skip' goes on."
        )
    if diagnosis.unreadable:
        steps.append("Unreadable images: replace them, or delete them and load with missing='skip'.")
    folder = str(diagnosis.folder)
    steps.append(f"ipad_data.load('table', {folder!r}{option})")
    steps.append(f"accelerate launch -m ipad_train --config photos data.dir={folder}" + ("" if not option else " ..."))
    return steps
