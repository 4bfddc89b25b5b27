"""One re-ranker with many settings, sharing what the settings have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._neighborhoods import find_neighborhoods, joint_unit
from ipad_rerank.rerankers._neighbors import gallery_neighbors
from ipad_rerank.rerankers._reciprocal import encode
from ipad_rerank.rerankers._reciprocal_search import search_reciprocal
from ipad_rerank.rerankers._refine import vectors_of
from ipad_rerank.rerankers.database_augmentation import DatabaseAugmentation
from ipad_rerank.rerankers.diffusion import GraphDiffusion
from ipad_rerank.rerankers.k_reciprocal import KReciprocal


def sweep(rerankers: Sequence[Any], query: Any, gallery: Any, ranking: Ranking) -> Iterator[tuple[int, Ranking]]:
    """``(place in rerankers, ranking)`` of each, in any order. All are of one class.

    The search of the gallery in itself, and encodings of equal k1, are computed once.
    """
    if rerankers[0].restrict_to is None and isinstance(rerankers[0], KReciprocal):
        yield from _k_reciprocals(rerankers, query, gallery, ranking)
        return
    options = {}
    if rerankers[0].restrict_to is None and isinstance(rerankers[0], (DatabaseAugmentation, GraphDiffusion)):
        options["neighbors"] = gallery_neighbors(gallery, max(reranker.k for reranker in rerankers))
    for place, reranker in enumerate(rerankers):
        yield place, reranker.rerank(query, gallery, ranking, **options)


def _k_reciprocals(
    rerankers: Sequence[KReciprocal], query: Any, gallery: Any, ranking: Ranking
) -> Iterator[tuple[int, Ranking]]:
    queries, items = vectors_of(query, gallery)
    largest = max(max(reranker.k1 + 1, reranker.k2) for reranker in rerankers)
    around = find_neighborhoods(joint_unit(queries, items), largest)
    places = sorted(range(len(rerankers)), key=lambda place: (rerankers[place].k1, rerankers[place].k2))
    for k1, same_k1 in groupby(places, key=lambda place: rerankers[place].k1):
        encoded = encode(around, k1)
        for k2, same_k2 in groupby(same_k1, key=lambda place: rerankers[place].k2):
            group = list(same_k2)
            values = [rerankers[place].lambda_value for place in group]
            found = search_reciprocal(around, len(queries), encoded, k2, values, ranking.k)
            for place, (indices, scores) in zip(group, found, strict=True):
                yield place, ranking.like(indices, scores)
