"""Examination of a data folder: which dataset it holds, what is there, what is missing, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ipad_data.builders._real import RealConfig, RealDatasetBuilder, SplitCoverage, find_split_folder
from ipad_data.builders.darn import DARN
from ipad_data.dataset_trees import REAL_BUILDERS, compare_tree, recognise
from ipad_data.errors import DatasetFilesNotFoundError
from ipad_data.image_check import unreadable_images
from ipad_data.image_tree import ImageTree
from ipad_data.label_files import LabelledImage
from ipad_data.schema import AttributeSchema

_SHOWN = 5


@dataclass
class AttributeCount:
    """How often the values of an attribute occur in a split; ``counts`` is in the order of the values."""

    attribute: str
    counts: list[int]

    def __str__(self) -> str:
        present = [count for count in self.counts if count]
        if not present:
            return f"{self.attribute}: no label"
        text = f"{self.attribute}: {sum(present)} labels, {len(present)} of {len(self.counts)} values seen, "
        text += f"{min(present)} to {max(present)} images a value (imbalance {max(present) / min(present):.1f})"
        single = present.count(1)
        return text + (f"; {single} values with one image, which never anchor a triplet" if single else "")


@dataclass
class ProtocolReport:
    """What a protocol finds in the folder: images and values of each split, or why it cannot be read."""

    protocol: str
    coverage: dict[str, SplitCoverage] = field(default_factory=dict)
    attributes: dict[str, list[AttributeCount]] = field(default_factory=dict)
    problem: str | None = None


@dataclass
class Diagnosis:
    """Result of :func:`examine` for one dataset of a folder."""

    folder: Path
    dataset: str
    tree: list[str]
    images: int = 0
    outside: list[str] = field(default_factory=list)
    protocols: list[ProtocolReport] = field(default_factory=list)
    unreadable: dict[str, str] | None = None
    notes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether some protocol can be read, with all of its images there and readable."""
        complete = any(
            report.problem is None and all(not coverage.missing for coverage in report.coverage.values())
            for report in self.protocols
        )
        return complete and not self.unreadable

    def __str__(self) -> str:
        lines = [f"{self.folder}: {self.dataset}"]
        lines += ["", "Expected (x = found):", *self.tree, ""] if self.tree else []
        if self.protocols:
            lines += [f"{self.images} image files", *self._links(), *self._unreadable()]
        for report in self.protocols:
            lines += ["", f"Protocol {report.protocol}"]
            lines += [f"  cannot be read: {report.problem}"] if report.problem else _protocol_lines(report)
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", "Next:", *(f"  {step}" for step in self.advice)])

    def _links(self) -> list[str]:
        return [f"{len(self.outside)} links lead out of the folder and are refused: {_few(self.outside)}"] * bool(
            self.outside
        )

    def _unreadable(self) -> list[str]:
        if self.unreadable is None:
            return ["images were not read"]
        lines = [f"{len(self.unreadable)} of them unreadable"]
        return lines + [f"  {problem}" for problem in list(self.unreadable.values())[:_SHOWN]]


def examine(
    folder: str | Path,
    dataset: str | None = None,
    read_images: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> list[Diagnosis]:
    """Examine a folder. Nothing is written.

    Args:
        folder: Folder of a dataset, or a folder of such folders.
        dataset: Its name; recognised when None.
        read_images: Decode every image to find broken ones.
        workers: Processes that read images; as many as there are cores when None.
        progress: Show a progress bar.

    Returns:
        One diagnosis for each dataset found.

    Raises:
        DatasetFilesNotFoundError: no such folder, or nothing in it looks like one of the datasets.
        ValueError: unknown dataset.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetFilesNotFoundError.explain("data folder", [folder.absolute()], "Name an existing folder.")
    if dataset is not None and dataset not in REAL_BUILDERS:
        raise ValueError(f"dataset must be one of {', '.join(REAL_BUILDERS)}, got {dataset!r}")
    found = recognise(folder) if dataset is None else [(dataset, folder)]
    if not found:
        hint = f"Name it with --dataset ({', '.join(REAL_BUILDERS)}) to see the tree that is expected."
        raise DatasetFilesNotFoundError.explain("files of a known dataset", [folder.absolute()], hint)
    return [_examine_one(name, place, read_images, workers, progress) for name, place in found]


def _examine_one(name: str, folder: Path, read_images: bool, workers: int | None, progress: bool) -> Diagnosis:
    if name not in REAL_BUILDERS:
        return _simple_diagnosis(name, folder)
    builder_class = REAL_BUILDERS[name]
    diagnosis = Diagnosis(folder, name, _tree_lines(folder, name))
    tree = ImageTree(folder, builder_class.ANCHOR)
    diagnosis.images, diagnosis.outside = len(tree.files), sorted(tree.outside)
    protocols = _readable_protocols(builder_class, folder)
    diagnosis.protocols = [_examine_protocol(builder_class, folder, protocol) for protocol in protocols]
    if read_images:
        diagnosis.unreadable = unreadable_images(sorted(tree.files.values()), workers, progress)
    if builder_class is DARN:
        diagnosis.notes = _url_notes(folder)
    diagnosis.advice = _advice(diagnosis, builder_class)
    return diagnosis


def _simple_diagnosis(name: str, folder: Path) -> Diagnosis:
    steps = {
        "prepared": f"Prepared by `ipad-data prepare`; load it with ipad_data.prepare.load_prepared({str(folder)!r}).",
        "rendered": "Written by `ipad-data render`; ipad_data.load('rendered') makes the same without files.",
        "table": f"A table of your own photos? Load it with ipad_data.load('table', {str(folder)!r}).",
    }
    return Diagnosis(folder, name, [], advice=[steps[name]])


def _tree_lines(folder: Path, name: str) -> list[str]:
    lines = []
    for line, matches in compare_tree(folder, name):
        lines.append(f"  [{'x' if matches else ' '}] {line.shown:42} {line.purpose}")
        lines += [f"        {_relative(path, folder)}" for path in matches[:_SHOWN]]
        lines += [f"        and {len(matches) - _SHOWN} more"] * (len(matches) > _SHOWN)
    return lines


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _readable_protocols(builder_class: type[RealDatasetBuilder], folder: Path) -> list[str]:
    """Protocols for which there is at least one file; all where there is none, to say what each one misses."""
    config = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder))
    published = find_split_folder(config.folder, builder_class.TITLE) is not None
    raw = bool(builder_class.raw_files(config))
    chosen = [name for name in config.protocols if (published if name == "published" else raw)]
    return chosen or list(config.protocols)


def _examine_protocol(builder_class: type[RealDatasetBuilder], folder: Path, protocol: str) -> ProtocolReport:
    report = ProtocolReport(protocol)
    try:
        config: RealConfig = builder_class.BUILDER_CONFIG_CLASS(data_dir=str(folder), protocol=protocol)
        reader = builder_class.without_cache(config)
        splits = reader.splits()
        report.coverage = reader.locate_images(splits)[1]
        report.attributes = {split: _count(images, reader.schema) for split, images in splits.items()}
    except (ValueError, OSError) as error:
        report.problem = str(error)
    return report


def _count(images: Sequence[LabelledImage], schema: AttributeSchema) -> list[AttributeCount]:
    seen = Counter(value_id for image in images for value_id in image.value_ids)
    return [
        AttributeCount(attribute, [seen[offset + local] for local in range(number)])
        for attribute, offset, number in zip(schema.attributes, schema.offsets, schema.num_values, strict=True)
    ]


def _protocol_lines(report: ProtocolReport) -> list[str]:
    lines = []
    for split, coverage in report.coverage.items():
        lines.append(f"  {split}: {coverage}")
        lines += [f"    missing: {_few(coverage.missing, 2)}"] * bool(coverage.missing)
        lines += [f"    {count}" for count in report.attributes[split]]
    return lines


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
    steps.append(f"ipad_data.load({diagnosis.dataset!r}, {str(diagnosis.folder)!r}{options})")
    if any_image:
        prepare = f"ipad-data prepare {diagnosis.dataset} {diagnosis.folder} --out OUT --size 512"
        steps.append(prepare + "".join(f" -o {option}" for option in options.replace("'", "").split(", ")[1:]))
    return steps


def _few(names: Sequence[str], shown: int = _SHOWN) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
