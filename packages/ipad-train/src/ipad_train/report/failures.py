"""What goes wrong, looked for on purpose: attributes at chance, lost queries, confused values, attention elsewhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ipad_core import AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_train.embed import EntryEmbeddings
from ipad_train.report.attention import AttendedImage, attended_images, distance_to_boxes, value_name
from ipad_train.report.pictures import SplitPictures
from ipad_train.report.rankings import Retrieval

MAX_SHOWN = 8  # attributes of which a failure is shown


@dataclass(frozen=True)
class Confusion:
    """``count`` of the ``queries`` that show ``value`` found ``found`` at the first place."""

    attribute: str
    value: str
    found: str
    count: int
    queries: int


@dataclass(frozen=True)
class Miss:
    """The entry of an attribute whose attention peak is farthest from its true box, in percent of the image's side."""

    attribute: str
    distance: float
    example: AttendedImage


def confusions(retrieval: Retrieval, schema: AttributeSchema, count: int = 10) -> list[Confusion]:
    """The most frequent wrong values at the first place, after re-ranking."""
    answered = np.flatnonzero(retrieval.top_after[:, 0] >= 0)
    true = retrieval.query.value_ids[answered]
    found = retrieval.gallery.value_ids[retrieval.top_after[answered, 0]]
    queries = Counter(true.tolist())
    wrong = found != true
    pairs = Counter(zip(true[wrong].tolist(), found[wrong].tolist(), strict=True))
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [
        Confusion(
            schema.value_names[value].partition("/")[0].replace("_", " "),
            value_name(schema, value),
            value_name(schema, other),
            number,
            queries[value],
        )
        for (value, other), number in ordered
    ]


def worst_queries(retrieval: Retrieval, schema: AttributeSchema) -> list[tuple[str, int]]:
    """The query of lowest AP, after re-ranking, of each attribute; the worst first."""
    worst = []
    for attribute_id, attribute in enumerate(schema.attributes):
        mine = np.flatnonzero(retrieval.query.attribute_ids == attribute_id)
        if len(mine):
            worst.append((attribute, int(mine[retrieval.precision_after[mine].argmin()])))
    worst.sort(key=lambda item: retrieval.precision_after[item[1]])
    return [(f"Worst query of {attribute.replace('_', ' ')}", index) for attribute, index in worst[:MAX_SHOWN]]


def attention_misses(
    model: AttributeEmbedder,
    pictures: SplitPictures,
    entries: EntryEmbeddings,
    schema: AttributeSchema,
    detail_size: int,
) -> list[Miss]:
    """The farthest miss of each attribute; none where the network has no attention or the dataset no boxes."""
    if entries.peak is None:
        return []
    misses = []
    for attribute_id, attribute in enumerate(schema.attributes):
        farthest, distance = _farthest(entries, pictures, attribute_id)
        if distance > 0:
            value = value_name(schema, int(entries.value_ids[farthest]))
            example = attended_images(
                model, pictures, entries.image_ids[farthest : farthest + 1], attribute_id, [value], detail_size
            )[0]
            misses.append(Miss(attribute.replace("_", " "), 100 * distance, example))
    return sorted(misses, key=lambda miss: -miss.distance)[:MAX_SHOWN]


def _farthest(entries: EntryEmbeddings, pictures: SplitPictures, attribute_id: int) -> tuple[int, float]:
    """Index of the entry farthest from its boxes, and how far; distance 0 where all peaks are within, or unknown."""
    farthest, distance = -1, 0.0
    for index in np.flatnonzero(entries.attribute_ids == attribute_id):
        boxes = pictures.true_boxes(int(entries.image_ids[index]), attribute_id)
        if boxes is None or not len(boxes):
            continue
        if (missed := distance_to_boxes(entries.peak[index], boxes)) > distance:
            farthest, distance = int(index), missed
    return farthest, distance
