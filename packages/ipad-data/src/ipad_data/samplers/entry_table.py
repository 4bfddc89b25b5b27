"""The labels of a dataset as flat arrays, which samplers work on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ipad_data.roles import ROLES
from ipad_data.schema import AttributeSchema


@dataclass(frozen=True)
class EntryTable:
    """All (image, attribute, value) entries of a dataset, in row order.

    Attributes:
        rows: ``(E,)`` int64, row of the dataset.
        attribute_ids: ``(E,)`` int64.
        value_ids: ``(E,)`` int64, flat.
        roles: ``(E,)`` int64, index into train, query, gallery.
        image_ids: ``(E,)`` int64, image id of the entry's row.
        schema: Names of attributes and values.
    """

    rows: np.ndarray
    attribute_ids: np.ndarray
    value_ids: np.ndarray
    roles: np.ndarray
    image_ids: np.ndarray
    schema: AttributeSchema

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def from_dataset(cls, dataset: Dataset, role: str | None = None) -> EntryTable:
        """Entries of a dataset of this package, of one role or of all; images are not touched.

        Raises:
            ValueError: unknown role, or a dataset without the columns of this package.
        """
        if role is not None and role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)} or None, got {role!r}")
        schema = AttributeSchema.from_features(dataset.features)
        columns = ["attribute_ids", "value_ids", "roles", "image_id"]
        table = dataset.select_columns(columns).with_format("arrow")[:]
        lengths, attribute_ids = _flatten(table["attribute_ids"])
        rows = np.repeat(np.arange(len(lengths)), lengths)
        arrays = {
            "rows": rows,
            "attribute_ids": attribute_ids,
            "value_ids": _flatten(table["value_ids"])[1],
            "roles": _flatten(table["roles"])[1],
            "image_ids": table["image_id"].to_numpy()[rows],
        }
        if role is not None:
            kept = arrays["roles"] == ROLES.index(role)
            arrays = {name: array[kept] for name, array in arrays.items()}
        return cls(**arrays, schema=schema)

    @cached_property
    def value_counts(self) -> np.ndarray:
        """``(V,)`` distinct images of every flat value id."""
        pairs = np.unique(self.rows * self.schema.total_values + self.value_ids)
        return np.bincount(pairs % self.schema.total_values, minlength=self.schema.total_values)


def _flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Length of each list of a column, and its elements one after the other as int64."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # a column of no chunks
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=column.type)
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64), array.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
