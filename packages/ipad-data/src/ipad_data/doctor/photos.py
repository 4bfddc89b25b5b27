"""Examination of photos with a table of labels."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

from ipad_data.builders._photos import PhotoBuilder
from ipad_data.builders._real import SplitCoverage
from ipad_data.dataset_trees import PHOTO_BUILDERS
from ipad_data.doctor.diagnosis import Diagnosis, ProtocolReport, count_values, few
from ipad_data.image_check import examine_images
from ipad_data.image_tree import ImageTree
from ipad_data.label_files import LabelledImage
from ipad_data.roles import QUERY


def examine_photos(diagnosis: Diagnosis, read_images: bool, workers: int | None, progress: bool) -> None:
    """Fill in the diagnosis of a dataset whose builder reads photos and labels as a table."""
    builder_class = PHOTO_BUILDERS[diagnosis.dataset]
    report = ProtocolReport("labels", "Labels")
    diagnosis.protocols = [report]
    photos = diagnosis.folder / builder_class.PHOTOS
    tree = ImageTree(photos if photos.is_dir() else diagnosis.folder, "images")
    diagnosis.outside = sorted(tree.outside)
    named: set[str] = set()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            named = _examine_labels(diagnosis, report, builder_class)
        diagnosis.notes += [str(warning.message) for warning in caught]
        if unnamed := sorted(relative for relative, path in tree.files.items() if path not in named):
            diagnosis.notes.append(f"{len(unnamed)} image files are not in the table: {few(unnamed)}")
    except (ValueError, OSError, ImportError) as error:
        report.problem = str(error)
    images = set(tree.files.values()) | named
    diagnosis.images = len(images)
    if read_images:
        diagnosis.unreadable, digests = examine_images(sorted(images), workers, progress)
        report.note_copies(digests)
    diagnosis.advice = _advice(diagnosis, report, builder_class)


def _examine_labels(diagnosis: Diagnosis, report: ProtocolReport, builder_class: type[PhotoBuilder]) -> set[str]:
    """Fill in coverage, values and splits; returns the real paths of the images that the labels name."""
    config = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(diagnosis.folder))
    builder_class.annotation_files(config)  # names missing files
    reader = builder_class.without_cache(config)
    found, absent = reader.locate_images()
    report.coverage[diagnosis.dataset] = SplitCoverage(
        len(found) + len(absent), len(found), [row.image for row in absent]
    )
    if absent and not found:
        diagnosis.notes.append(reader.missing_advice(absent)[-1])
    labelled = reader.labelled(found) if found else []
    splits = reader.divide(labelled) if labelled else {}
    report.splits = splits
    report.paths = {split: [str(Path(image.name).resolve()) for image in members] for split, members in splits.items()}
    images = [image for members in splits.values() for image in members]
    report.attributes[diagnosis.dataset] = count_values(images, reader.schema)
    if boxes := sum(bool(row.regions.boxes) for row, _ in labelled):
        diagnosis.notes.append(f"{boxes} images have boxes")
    given = "given" if labelled and labelled[0][0].split is not None else "drawn"
    diagnosis.notes.append(f"Splits, {given}: " + ", ".join(_split_text(*item) for item in splits.items()))
    return {str(path.resolve()) for _, path in found}


def _split_text(split: str, images: list[LabelledImage]) -> str:
    queries = sum(QUERY in image.roles for image in images)
    return f"{split} {len(images)}" + (f" ({queries} queries)" if split != "train" else "")


def _advice(diagnosis: Diagnosis, report: ProtocolReport, builder_class: type[PhotoBuilder]) -> list[str]:
    if report.problem is not None:
        return [builder_class.HOW_TO_MEND]
    steps, option = [], ""
    if report.coverage[diagnosis.dataset].missing:
        option = ", missing='skip'"
        steps.append("Files are missing: put them there, or correct their names; missing='skip' goes on.")
    if diagnosis.unreadable:
        steps.append("Unreadable images: replace them, or delete them and load with missing='skip'.")
    name, folder = diagnosis.dataset, str(diagnosis.folder)
    steps.append(f"ipad_data.load({name!r}, {folder!r}{option})")
    train = ["accelerate", "launch", "-m", "ipad_train", "--config", "photos", f"data.dir={folder}"]
    train += [f"data.name={name}"] * (name != "table") + ["data.options={missing: skip}"] * bool(option)
    steps.append(shlex.join(train))
    return steps
