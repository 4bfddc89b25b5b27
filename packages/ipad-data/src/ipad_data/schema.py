"""Attribute schema: which attributes a dataset has, and which values each of them can take.

A *value id* is flat over all attributes: the values of attribute 0 come first, then those of attribute 1, and so on.
A *local value id* counts within one attribute. The schema converts between the two.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import accumulate

import numpy as np
from datasets import ClassLabel, Features, List

_SEPARATOR = "/"


@dataclass(frozen=True)
class AttributeSchema:
    """Names of attributes and of their values, in the order of their ids.

    Args:
        values: Attribute name -> names of its values. Names are non-empty; an attribute's name holds no ``/``; the
            values of one attribute differ from each other.

    Raises:
        ValueError: no attribute, an attribute without values, an empty or repeated name.

    Example:
        >>> schema = AttributeSchema({"sleeve_length": ["short", "long"], "collar": ["none", "shirt", "stand"]})
        >>> schema.value_id("collar", "shirt"), schema.locate(3)
        (3, (1, 1))
    """

    values: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must name at least one attribute, got none")
        for attribute, names in self.values.items():
            if not attribute or _SEPARATOR in attribute:
                raise ValueError(f"attribute names must be non-empty and hold no '{_SEPARATOR}', got {attribute!r}")
            if not names or any(not name for name in names) or len(set(names)) != len(names):
                raise ValueError(f"the values of {attribute!r} must be non-empty and distinct, got {list(names)}")
        object.__setattr__(self, "values", {attribute: tuple(names) for attribute, names in self.values.items()})

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names; position = attribute id."""
        return tuple(self.values)

    @cached_property
    def num_values(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(len(names) for names in self.values.values())

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Flat id of the first value of each attribute."""
        return (0, *accumulate(self.num_values))[:-1]

    @property
    def total_values(self) -> int:
        """Number of values over all attributes."""
        return sum(self.num_values)

    @cached_property
    def value_names(self) -> tuple[str, ...]:
        """``attribute/value`` for every flat value id."""
        return tuple(f"{attribute}{_SEPARATOR}{name}" for attribute, names in self.values.items() for name in names)

    @property
    def value_attribute_ids(self) -> np.ndarray:
        """``(V,)`` int64, attribute id of every flat value id."""
        return np.repeat(np.arange(len(self.values), dtype=np.int64), self.num_values)

    def attribute_id(self, attribute: str) -> int:
        """Id of an attribute name.

        Raises:
            ValueError: no such attribute; the message lists the nearest names.
        """
        if attribute not in self.values:
            near = get_close_matches(attribute, self.attributes) or self.attributes
            raise ValueError(f"unknown attribute {attribute!r}; did you mean one of: {', '.join(near)}?")
        return self.attributes.index(attribute)

    def value_id(self, attribute: str, value: str) -> int:
        """Flat id of a value name of an attribute.

        Raises:
            ValueError: no such attribute, or it has no such value.
        """
        attribute_id = self.attribute_id(attribute)
        if value not in self.values[attribute]:
            raise ValueError(f"{attribute!r} has no value {value!r}; its values: {', '.join(self.values[attribute])}")
        return self.offsets[attribute_id] + self.values[attribute].index(value)

    def flat_value_id(self, attribute_id: int, local_value_id: int) -> int:
        """Flat id of the ``local_value_id``-th value of an attribute.

        Raises:
            ValueError: either id is out of range.
        """
        if not 0 <= attribute_id < len(self.values):
            raise ValueError(f"attribute id must be within [0, {len(self.values)}), got {attribute_id}")
        if not 0 <= local_value_id < self.num_values[attribute_id]:
            raise ValueError(
                f"value id of {self.attributes[attribute_id]!r} must be within [0, {self.num_values[attribute_id]}), "
                f"got {local_value_id}"
            )
        return self.offsets[attribute_id] + local_value_id

    def locate(self, value_id: int) -> tuple[int, int]:
        """Attribute id and local value id of a flat value id.

        Raises:
            ValueError: the id is out of range.
        """
        if not 0 <= value_id < self.total_values:
            raise ValueError(f"value id must be within [0, {self.total_values}), got {value_id}")
        attribute_id = bisect_right(self.offsets, value_id) - 1
        return attribute_id, value_id - self.offsets[attribute_id]

    def features(self) -> Features:
        """Typed columns of the labels of an image: parallel lists of attribute ids and flat value ids.

        The names travel with a ``datasets.Dataset``, so that :meth:`from_features` reads the schema back.
        """
        return Features(
            attribute_ids=List(ClassLabel(names=list(self.attributes))),
            value_ids=List(ClassLabel(names=list(self.value_names))),
        )

    @classmethod
    def from_features(cls, features: Features) -> AttributeSchema:
        """Schema that the features of a dataset of this package carry (see :meth:`features`).

        Raises:
            ValueError: the features hold no ``attribute_ids`` and ``value_ids`` columns with names.
        """
        try:
            attributes = features["attribute_ids"].feature.names
            value_names = features["value_ids"].feature.names
        except (KeyError, AttributeError):
            raise ValueError(
                "features must hold 'attribute_ids' and 'value_ids' lists of ClassLabel, as ipad_data.load makes; "
                f"got columns {sorted(features)}"
            ) from None
        values: dict[str, list[str]] = {attribute: [] for attribute in attributes}
        for name in value_names:
            attribute, _, value = name.partition(_SEPARATOR)
            values[attribute].append(value)
        return cls(values)

    def to_json(self) -> str:
        """JSON text ``{attribute: [value, ...]}``."""
        return json.dumps(self.values, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> AttributeSchema:
        """Inverse of :meth:`to_json`."""
        return cls(json.loads(text))
