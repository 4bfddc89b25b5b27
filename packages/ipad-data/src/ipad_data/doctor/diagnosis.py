"""What an examination of a data folder found, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ipad_data.builders._real import SplitCoverage
from ipad_data.faults import Faults
from ipad_data.label_files import LabelledImage
from ipad_data.schema import AttributeSchema
from ipad_data.split_checks import SAME_CONTENT, check_files

SHOWN = 5


@dataclass
class AttributeCount:
    """How often the values of an attribute occur in a split; ``counts`` is in the order of the values."""

    attribute: str
    counts: list[int]
    trains: bool = True

    def __str__(self) -> str:
        present = [count for count in self.counts if count]
        if not present:
            return f"{self.attribute}: no label"
        text = f"{self.attribute}: {sum(present)} labels, {len(present)} of {len(self.counts)} values seen, "
        text += f"{min(present)} to {max(present)} images a value (imbalance {max(present) / min(present):.1f})"
        single = present.count(1) if self.trains else 0
        return text + (f"; values with one image, which never anchor a triplet: {single}" if single else "")


def count_values(
    images: Iterable[LabelledImage], schema: AttributeSchema, trains: bool = True
) -> list[AttributeCount]:
    """How often each value occurs among the images, which are for training or not."""
    seen = Counter(value_id for image in images for value_id in image.value_ids)
    return [
        AttributeCount(attribute, [seen[offset + local] for local in range(number)], trains)
        for attribute, offset, number in zip(schema.attributes, schema.offsets, schema.num_values, strict=True)
    ]


@dataclass
class ProtocolReport:
    """What a way to read the folder finds in it: images and values of each split, or why it cannot be read."""

    protocol: str
    title: str
    coverage: dict[str, SplitCoverage] = field(default_factory=dict)
    attributes: dict[str, list[AttributeCount]] = field(default_factory=dict)
    problem: str | None = None
    notes: list[str] = field(default_factory=list)
    splits: dict[str, list[LabelledImage]] = field(default_factory=dict)
    paths: dict[str, list[str | None]] = field(default_factory=dict)  # of the images of each split

    def note_copies(self, digests: Mapping[str, str]) -> None:
        """Note images of the same content in two splits, or with labels of the same attribute.

        Args:
            digests: Digest of the content of each image file that was read.
        """
        faults = Faults()
        contents = {split: [digests.get(path) for path in paths] for split, paths in self.paths.items()}
        check_files(self.splits, contents, faults, SAME_CONTENT)
        self.notes += faults.lines()


@dataclass
class Diagnosis:
    """Result of :func:`examine` for one dataset of a folder."""

    folder: Path
    dataset: str
    tree: list[str]
    images: int = 0
    outside: list[str] = field(default_factory=list)
    protocols: list[ProtocolReport] = field(default_factory=list)
    unreadable: dict[str, str] | None = None  # path -> reason; None where images were not read
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
            lines += ["", report.title]
            lines += [f"  cannot be read: {report.problem}"] if report.problem else _protocol_lines(report)
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, "", "Next:", *(f"  {step}" for step in self.advice)])

    def _links(self) -> list[str]:
        return [f"{len(self.outside)} links lead out of the folder and are refused: {few(self.outside)}"] * bool(
            self.outside
        )

    def _unreadable(self) -> list[str]:
        if self.unreadable is None:
            return ["images were not read"]
        lines = [f"{len(self.unreadable)} of them unreadable"]
        return lines + [f"  {problem}" for problem in list(self.unreadable.values())[:SHOWN]]


def _protocol_lines(report: ProtocolReport) -> list[str]:
    lines = [f"  note: {note}" for note in report.notes]
    for split, coverage in report.coverage.items():
        lines.append(f"  {split}: {coverage}")
        lines += [f"    missing: {few(coverage.missing, 2)}"] * bool(coverage.missing)
        lines += [f"    {count}" for count in report.attributes[split]]
    return lines


def few(names: Sequence[str], shown: int = SHOWN) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
