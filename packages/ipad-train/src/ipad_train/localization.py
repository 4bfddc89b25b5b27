"""How often attention peaks where the attribute really is, and how often a random point of the subject would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from ipad_data import AttributeSchema
from ipad_train.embed import EntryEmbeddings

Shares = dict[str, float]


def localization(embedded: EntryEmbeddings, dataset: Dataset, schema: AttributeSchema) -> Shares | None:
    """Share of entries, in percent, whose attention peak lies in one of the attribute's true boxes.

    Entries without a true box are left out. By attribute, and ``overall``; None where there is no attention or no box.
    """
    if embedded.peak is None or "boxes" not in dataset.column_names:
        return None
    boxes = {key: np.asarray(box, dtype=np.float32).reshape(-1, 4) for key, box in _by_entry(dataset, "boxes").items()}
    keys = _keys(embedded)
    known = np.array([len(boxes[key]) > 0 for key in keys], dtype=bool)
    hits = np.array([_inside(peak, boxes[key]) for peak, key in zip(embedded.peak, keys, strict=True)], dtype=bool)
    return _shares(hits, known, embedded.attribute_ids, schema)


def random_localization(embedded: EntryEmbeddings, dataset: Dataset, schema: AttributeSchema) -> Shares | None:
    """The same share for points drawn uniformly from the subject (the person), over the same entries.

    None where the dataset does not know the subject's pixels.
    """
    if "box_chance" not in dataset.column_names or "boxes" not in dataset.column_names:
        return None
    chance, boxes, keys = _by_entry(dataset, "box_chance"), _by_entry(dataset, "boxes"), _keys(embedded)
    known = np.array([len(boxes[key]) > 0 for key in keys], dtype=bool)
    return _shares(np.array([chance[key] for key in keys], dtype=np.float64), known, embedded.attribute_ids, schema)


def _by_entry(dataset: Dataset, column: str) -> dict[tuple[int, int], object]:
    """A column that holds one item an entry, by image id and attribute id."""
    rows = dataset.select_columns(["image_id", "attribute_ids", column]).with_format(None)
    return {
        (row["image_id"], attribute): item
        for row in rows
        for attribute, item in zip(row["attribute_ids"], row[column], strict=True)
    }


def _keys(embedded: EntryEmbeddings) -> list[tuple[int, int]]:
    return list(zip(embedded.image_ids.tolist(), embedded.attribute_ids.tolist(), strict=True))


def _inside(point: Sequence[float], boxes: np.ndarray) -> bool:
    x, y = point
    return bool(((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).any())


def _shares(
    values: np.ndarray, known: np.ndarray, attribute_ids: np.ndarray, schema: AttributeSchema
) -> Shares | None:
    if not known.any():
        return None
    shares = {}
    for i, name in enumerate(schema.attributes):
        mine = known & (attribute_ids == i)
        if mine.any():
            shares[name] = 100 * float(values[mine].mean())
    return {**shares, "overall": 100 * float(values[known].mean())}
