"""Examination of folders of split files and raw annotations: the real datasets, and rendered exports."""

from __future__ import annotations

import warnings
from pathlib import Path

from ipad_data.builders._real import RealDatasetBuilder
from ipad_data.builders._real_config import RealConfig, find_split_folder
from ipad_data.builders.darn import DARN
from ipad_data.builders.fashionai import FashionAI
from ipad_data.dataset_trees import REAL_BUILDERS
from ipad_data.doctor.diagnosis import Diagnosis, ProtocolReport, count_values
from ipad_data.image_check import unreadable_images
from ipad_data.image_tree import ImageTree


def examine_real(diagnosis: Diagnosis, read_images: bool, workers: int | None, progress: bool) -> None:
    """Fill in the diagnosis of a real dataset or of a rendered export, which has the layout of FashionAI."""
    builder_class, folder = REAL_BUILDERS.get(diagnosis.dataset, FashionAI), diagnosis.folder
    tree = ImageTree(folder, builder_class.ANCHOR)
    diagnosis.images, diagnosis.outside = len(tree.files), sorted(tree.outside)
    protocols = _readable_protocols(builder_class, folder)
    diagnosis.protocols = [_examine_protocol(builder_class, folder, protocol) for protocol in protocols]
    if read_images:
        diagnosis.unreadable = unreadable_images(sorted(tree.files.values()), workers, progress)
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
    report = ProtocolReport(protocol, f"Protocol {protocol}")
    try:
        config: RealConfig = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder), protocol=protocol)
        reader = builder_class.without_cache(config)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            splits = reader.splits()
            report.coverage = reader.locate_images(splits)[1]
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
    good = [report for report in diagnosis.protocols if report.problem is None]
    if not good:
        return ["No protocol can be read; the reasons are above.", builder_class.HOW_TO_GET]
    steps, options = [], ""
    any_image = any(coverage.found for coverage in good[0].coverage.values())
    if any(coverage.missing for coverage in good[0].coverage.values()):
        options = ", missing_images='skip'" if any_image else ", missing_images='label_only'"
        steps.append(f"Images are missing. {builder_class.HOW_TO_GET}")
    if diagnosis.unreadable:
        steps.append("Unreadable images: fetch them again, or delete them and load with missing_images='skip'.")
    if good[0].protocol != "published":
        options += f", protocol={good[0].protocol!r}"
    name = diagnosis.dataset if diagnosis.dataset in REAL_BUILDERS else "fashionai"
    steps.append(f"ipad_data.load({name!r}, {str(diagnosis.folder)!r}{options})")
    if any_image:
        prepare = f"ipad-data prepare {name} {diagnosis.folder} --out OUT --size 512"
        steps.append(prepare + "".join(f" -o {option}" for option in options.replace("'", "").split(", ")[1:]))
    return steps
