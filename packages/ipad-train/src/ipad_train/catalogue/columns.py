"""What a filter may name: attributes, their confidences, and the columns of the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import FILE
from ipad_train.catalogue.photo_table import NUMBER, TEXT

if TYPE_CHECKING:
    from ipad_train.catalogue.manifest import Manifest

ATTRIBUTE = "attribute"


@dataclass(frozen=True)
class Column:
    """A name that filters know: its ``kind`` (number, text or attribute), its field, and an attribute's values."""

    name: str
    kind: str
    field: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """All of a catalogue's, by name. An attribute goes before a column of the table that has its name."""

    by_name: Mapping[str, Column]

    @classmethod
    def of(cls, manifest: Manifest) -> Columns:
        """Columns of a catalogue."""
        found = {FILE: Column(FILE, TEXT, FILE)}
        found |= {name: Column(name, kind, manifest.fields[name]) for name, kind in manifest.kinds.items()}
        for number, (name, values) in enumerate(manifest.values.items()):
            found[name] = Column(name, ATTRIBUTE, f"v{number}", tuple(values))
            found[f"{name}.confidence"] = Column(f"{name}.confidence", NUMBER, f"c{number}")
        return cls(found)

    def find(self, name: str) -> Column:
        """The column of a name.

        Raises:
            CatalogueError: there is none; the nearest are named.
        """
        if name not in self.by_name:
            near = get_close_matches(name, self.by_name) or [each for each in self.by_name if "." not in each][:12]
            raise CatalogueError(
                f"the filter names {name!r}, which is no column; did you mean one of: {', '.join(near)}?"
            )
        return self.by_name[name]


def find_attribute(name: str, attributes: tuple[str, ...]) -> int:
    """Id of an attribute.

    Raises:
        CatalogueError: the model does not have it; the nearest are named.
    """
    if name not in attributes:
        near = get_close_matches(name, attributes) or attributes[:12]
        raise CatalogueError(f"the model has no attribute {name[:80]!r}; did you mean one of: {', '.join(near)}?")
    return attributes.index(name)
