"""Examination of folders of split files and raw annotations: the real datasets, and rendered exports."""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path, PurePosixPath

from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import RealConfig, find_split_folder
from ipad_data.builders.darn import DARN
from ipad_data.builders.fashionai import FashionAI
from ipad_data.dataset_trees import REAL_BUILDERS
from ipad_data.doctor.diagnosis import Diagnosis, ProtocolReport, count_values
from ipad_data.image_check import examine_images
from ipad_data.image_tree import ImageTree, below_anchor
from ipad_data.tables.photo_search import nearest_folder


def examine_real(diagnosis: Diagnosis, read_images: bool, workers: int | None, progress: bool) -> None:
    """Fill in the diagnosis of a real dataset or of a rendered export, which has the layout of FashionAI."""
    builder_class, folder = REAL_BUILDERS.get(diagnosis.dataset, FashionAI), diagnosis.folder
    tree = ImageTree(folder, builder_class.ANCHOR)
    diagnosis.outside = sorted(tree.outside)
    images = set(tree.files.values())
    for protocol in _readable_protocols(builder_class, folder):
        report = _examine_protocol(builder_class, folder, protocol)
        diagnosis.protocols.append(report)
        images |= {path for paths in report.paths.values() for path in paths if path is not None}
    diagnosis.images = len(images)
    if read_images:
        diagnosis.unreadable, digests = examine_images(sorted(images), workers, progress)
        for report in diagnosis.protocols:
            report.note_copies(digests)
    if builder_class is DARN:
        diagnosis.notes = _url_notes(folder)
    diagnosis.advice = _advice(diagnosis, builder_class)


def _readable_protocols(builder_class: type[RealDatasetBuilder], folder: Path) -> list[str]:
    """Protocols for which there is at least one file; all where there is none, to say what each one misses."""
    config = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder))
    published = find_split_folder(config.folder, builder_class.TITLE) is not None
    raw = bool(builder_class.raw_files(config))
    chosen = [name for name in config.protocols if (published if name == "published" else raw)]
    return chosen or list(config.protocols)


def _examine_protocol(builder_class: type[RealDatasetBuilder], folder: Path, protocol: str) -> ProtocolReport:
    """What the protocol finds."""
    report = ProtocolReport(protocol, f"Protocol {protocol}")
    try:
        config: RealConfig = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder), protocol=protocol)
        reader = builder_class.without_cache(config)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            splits = reader.splits()
            report.paths, report.coverage = reader.locate_images(splits)
        report.splits = splits
        report.notes = [str(warning.message) for warning in caught]
        report.attributes = {
            split: count_values(images, reader.schema, split == "train") for split, images in splits.items()
        }
    except (ValueError, OSError) as error:
        report.problem = str(error)
    return report


def _url_notes(folder: Path) -> list[str]:
    config = DARN.BUILDER_CONFIG_CLASS(data_dir=str(folder))
    try:
        coverage = DARN.without_cache(config).url_coverage()
    except ValueError as error:
        return [f"The link list cannot be read: {error}"]
    if coverage is None:
        return []
    text = f"Link list: {coverage.found} of {coverage.links} linked images are here"
    return [text + (f"; {coverage.repeated} lines repeat a name" if coverage.repeated else "")]


def _advice(diagnosis: Diagnosis, builder_class: type[RealDatasetBuilder]) -> list[str]:
    name = diagnosis.dataset if diagnosis.dataset in REAL_BUILDERS else "fashionai"
    good = next((report for report in diagnosis.protocols if report.problem is None), None)
    missing = [name for coverage in good.coverage.values() for name in coverage.missing] if good else []
    elsewhere = _target_of(diagnosis)
    if elsewhere is None and missing:
        elsewhere = _beside(diagnosis.folder, builder_class.ANCHOR, missing)
    if good is None and elsewhere is None:
        return ["No protocol can be read; the reasons are above.", builder_class.HOW_TO_GET]
    steps, options = [], {}
    any_image = good is not None and any(coverage.found for coverage in good.coverage.values())
    if elsewhere is not None and not any_image:
        steps.append(
            f"Images are in {elsewhere}: images_dir names that folder; links out of the data folder are refused."
        )
        options["images_dir"], any_image = elsewhere, True
    elif missing:
        steps.append(f"Images are missing. {builder_class.HOW_TO_GET}")
        options["missing_images"] = "skip" if any_image else "label_only"
    if diagnosis.unreadable:
        steps.append("Unreadable images: fetch them again, or delete them and load with missing_images='skip'.")
    if good is not None and good.protocol != "published":
        options["protocol"] = good.protocol
    given = "".join(f", {option}={value!r}" for option, value in options.items())
    steps.append(f"ipad_data.load({name!r}, {str(diagnosis.folder)!r}{given})")
    if any_image:
        prepare = ["ipad-data", "prepare", name, str(diagnosis.folder), "--out", "OUT", "--size", "512"]
        steps.append(shlex.join(prepare + [part for item in options.items() for part in ("-o", "=".join(item))]))
    return steps


def _target_of(diagnosis: Diagnosis) -> str | None:
    """The folder that holds what all links to folders outside lead to; None without such links, or where it is the root."""
    targets = [os.path.realpath(diagnosis.folder / link) for link in diagnosis.outside]
    folders = [target for target in targets if os.path.isdir(target)]
    common = os.path.commonpath(folders) if folders else os.sep
    return None if os.path.dirname(common) == common else common


def _beside(folder: Path, anchor: str, names: list[str]) -> str | None:
    """The folder in or beside a data folder that images count from, by the nearest file that has the name of one."""
    found = nearest_folder(folder.absolute().parent, names)
    if found is None:
        return None
    place, name = found
    parents = PurePosixPath(below_anchor(name, anchor)).parent.parts
    if place.parts[len(place.parts) - len(parents) :] != parents:
        return None
    return str(Path(*place.parts[: len(place.parts) - len(parents)]))
