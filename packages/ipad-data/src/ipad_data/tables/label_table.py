"""A table of labels: one row an image, with the values of its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ipad_data.errors import LabelFileError
from ipad_data.regions import Regions
from ipad_data.schema import AttributeSchema

_MANY_ROWS, _NEARLY_ALL = 20, 0.9  # from how many rows on, and from which share, distinct values look like ids


@dataclass(frozen=True)
class TableRow:
    """One image of a table.

    Attributes:
        place: Where the row is written, for messages: ``file:line``, ``file: row 3``.
        folder: Folder that the image name counts from before any other.
        image: Image name as written.
        values: Attribute -> names of its values; attributes that are not labelled are absent.
        split: ``train``, ``validation``, ``test``, or None where the table gives none.
        role: ``query``, ``gallery``, or None.
        regions: Boxes of the attributes, as written.
    """

    place: str
    folder: Path
    image: str
    values: dict[str, tuple[str, ...]]
    split: str | None = None
    role: str | None = None
    regions: Regions = field(default_factory=Regions)

    @property
    def name(self) -> str:
        """The image name in one spelling, whatever the slashes and with ``./`` left out."""
        return one_spelling(self.image)


def one_spelling(image: str) -> str:
    """An image name with forward slashes and without ``./``."""
    return str(PurePosixPath(image.replace("\\", "/")))


@dataclass(frozen=True)
class LabelTable:
    """A table as read.

    Attributes:
        path: The file, or the folder of several, for messages.
        attributes: Names, in order.
        rows: One an image.
        others: Columns that could be attributes and were not chosen.
        left_out: Attributes that were left out -> the one value that they have; empty text where they have none.
    """

    path: Path
    attributes: tuple[str, ...]
    rows: list[TableRow]
    others: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def has_boxes(self) -> bool:
        """Whether any image has a box."""
        return any(row.regions.boxes for row in self.rows)

    def values_seen(self) -> dict[str, set[str]]:
        """Attribute -> names of its values in the table."""
        values: dict[str, set[str]] = {attribute: set() for attribute in self.attributes}
        for row in self.rows:
            for attribute, names in row.values.items():
                values[attribute].update(names)
        return values

    def without_constants(self) -> LabelTable:
        """The table without the attributes that have fewer than two values: there is nothing to tell apart.

        Raises:
            LabelFileError: no attribute has two values.
        """
        seen = self.values_seen()
        left_out = {attribute: "".join(names) for attribute, names in seen.items() if len(names) < 2}
        if len(left_out) == len(seen):
            found = ", ".join(
                f"{attribute!r} has {value!r}" if value else f"{attribute!r} has none"
                for attribute, value in left_out.items()
            )
            raise LabelFileError.at(self.path, None, f"no attribute has two values to tell apart: {found}")
        kept = tuple(attribute for attribute in self.attributes if attribute not in left_out)
        rows = [
            replace(row, values={name: values for name, values in row.values.items() if name not in left_out})
            for row in self.rows
        ]
        return replace(self, attributes=kept, rows=rows, left_out=left_out)

    def infer_schema(self) -> AttributeSchema:
        """Attributes in the order of the columns, values sorted by name.

        Raises:
            LabelFileError: an attribute has no value at all, or a name that an attribute cannot have.
        """
        try:
            return AttributeSchema({attribute: sorted(names) for attribute, names in self.values_seen().items()})
        except ValueError as error:
            raise LabelFileError.at(self.path, None, str(error)) from None

    def identifiers(self) -> dict[str, int]:
        """Attributes of which nearly every row has its own value, as of an id or a description -> number of values."""
        labelled = {attribute: sum(attribute in row.values for row in self.rows) for attribute in self.attributes}
        return {
            attribute: len(names)
            for attribute, names in self.values_seen().items()
            if labelled[attribute] >= _MANY_ROWS and len(names) >= _NEARLY_ALL * labelled[attribute]
        }


def join_tables(path: Path, tables: Sequence[LabelTable]) -> LabelTable:
    """Several tables as one, e.g. those of the folders ``train`` and ``test``."""
    attributes = tuple(dict.fromkeys(name for table in tables for name in table.attributes))
    others = tuple(dict.fromkeys(name for table in tables for name in table.others))
    return LabelTable(path, attributes, [row for table in tables for row in table.rows], others)
