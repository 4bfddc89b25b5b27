"""What a ranking at random scores: the floor that every retrieval result should be compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from datasets import Dataset

from ipad_data.label_files import LabelledImage
from ipad_data.roles import GALLERY, QUERY
from ipad_data.schema import AttributeSchema


def expected_random_ap(num_relevant: int, num_gallery: int) -> float:
    """Exact expectation of the average precision of a random order.

    With R relevant among N, the item at rank k is relevant with probability R/N, and each of the k-1 before it, given
    that, with (R-1)/(N-1). Summed over the ranks, with H_N = 1 + 1/2 + ... + 1/N:

    ``E[AP] = (H_N + (R-1)/(N-1) * (N - H_N)) / N``

    Args:
        num_relevant: R, within [0, N]; 0 gives 0, as the field counts a query without any relevant candidate.
        num_gallery: N, at least 1.

    Raises:
        ValueError: an argument out of its range.
    """
    if num_gallery < 1 or not 0 <= num_relevant <= num_gallery:
        raise ValueError(f"expected 0 <= num_relevant <= num_gallery >= 1, got {num_relevant} and {num_gallery}")
    if num_relevant == 0:
        return 0.0
    if num_gallery == 1:
        return 1.0
    harmonic = sum(1 / k for k in range(1, num_gallery + 1))
    return (harmonic + (num_relevant - 1) / (num_gallery - 1) * (num_gallery - harmonic)) / num_gallery


class RandomMap(NamedTuple):
    """Expected MAP of a random ranking: per attribute (with its number of queries), and over all queries."""

    per_attribute: dict[str, float]
    num_queries: dict[str, int]
    overall: float


def expected_random_map(images: Dataset | Iterable[LabelledImage], schema: AttributeSchema) -> RandomMap:
    """Expected MAP of a random ranking of a split, as the field evaluates.

    Each query entry ranks the gallery images of its attribute; those with its value are relevant; the overall figure
    is the mean over all queries.

    Args:
        images: A split, as ``load`` returns it or as the split files hold it.
        schema: Its attributes and values.

    Raises:
        ValueError: the split has no queries.
    """
    if isinstance(images, Dataset):
        columns = images.select_columns(["image_id", "attribute_ids", "value_ids", "roles"]).with_format(None)
        rows = ((row["image_id"], row["attribute_ids"], row["value_ids"], row["roles"]) for row in columns)
    else:
        rows = ((image.image_id, image.attribute_ids, image.value_ids, image.roles) for image in images)
    gallery: dict[int, set[int]] = defaultdict(set)
    relevant: dict[int, int] = defaultdict(int)
    queries: dict[tuple[int, int], int] = defaultdict(int)
    for image_id, attribute_ids, value_ids, roles in rows:
        for attribute_id, value_id, role in zip(attribute_ids, value_ids, roles, strict=True):
            if role == GALLERY:
                gallery[attribute_id].add(image_id)
                relevant[value_id] += 1
            elif role == QUERY:
                queries[attribute_id, value_id] += 1
    if not queries:
        raise ValueError("images must hold query entries, got none; the train split has none")
    total: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for (attribute_id, value_id), number in sorted(queries.items()):
        name, candidates = schema.attributes[attribute_id], len(gallery[attribute_id])
        count[name] += number
        total[name] += number * (expected_random_ap(relevant[value_id], candidates) if candidates else 0.0)
    overall = sum(total.values()) / sum(count.values())
    return RandomMap({name: total[name] / count[name] for name in total}, dict(count), overall)
