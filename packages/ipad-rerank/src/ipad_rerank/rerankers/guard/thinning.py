"""More small classes than a gallery has: large ones, thinned out, and their queries asked again.

A long tail of ten classes has one or two of each size, and a calibration on these knows next to nothing of small classes. So
in each of several rounds a few classes are thinned to a handful of items each, while the others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.rerankers.labelled import LabelledSearch
from ipad_rerank.rerankers.retrieval import Retrieval

AT_ONCE = 0.2
"""Share of the classes that a round thins: most of the gallery stays what it is."""

QUERIES = 10
"""Of a thinned class that ask again, at most: many classes teach more than many queries of one."""

TIMES = 2
"""Queries that ask again, as a multiple of those there are, about."""

LEAST = 2
"""Items that are left of a class, at least; at most it is half of them."""


class Round(NamedTuple):
    """All galleries, some of them thinned, and the searches of these alone, by queries of thinned classes.

    The searches' ``query_rows`` count through the queries of all parts.
    """

    galleries: list[LabelledSearch]
    searches: list[LabelledSearch]


def thinned(parts: Sequence[LabelledSearch], seed: int) -> Iterator[Round]:
    """Rounds, until about twice as many queries have asked again as there are.

    Classes take turns, in a random order. How many items are left of one is drawn log-uniformly between two and half.

    Args:
        parts: Labelled galleries that were searched, one a group; a class of each counts as one of its own.
        seed: Of all that is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = [(number, name) for number, part in enumerate(parts) for name in _large_enough(part)]
    few, turn = max(1, round(AT_ONCE * len(classes))), []
    starts = np.cumsum([0, *(len(part.query_classes) for part in parts)]).tolist()
    left = TIMES * starts[-1] if classes else 0
    while left > 0:
        turn = turn if len(turn) >= few else [classes[i] for i in torch.randperm(len(classes), generator=generator)]
        chosen, turn = turn[:few], turn[few:]
        galleries = list(parts)
        for number in sorted({number for number, _ in chosen}):
            names = [name for at, name in chosen if at == number]
            galleries[number] = _thinned(parts[number], names, starts[number], generator)
        searches = [after for before, after in zip(parts, galleries, strict=True) if after is not before]
        left -= sum(len(search.query_classes) for search in searches)
        yield Round(galleries, searches)


def _large_enough(part: LabelledSearch) -> list[int]:
    """Classes that can be halved and are asked for."""
    names, counts = part.classes[part.classes >= 0].unique(return_counts=True)
    return names[(counts >= 2 * LEAST) & torch.isin(names, part.query_classes)].tolist()


def _thinned(part: LabelledSearch, classes: list[int], start: int, generator: torch.Generator) -> LabelledSearch:
    kept, asking = torch.ones(len(part.classes), dtype=torch.bool), []
    for name in classes:
        items, queries = (_shuffled(found == name, generator) for found in (part.classes, part.query_classes))
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        kept[items[round(LEAST * (len(items) / 2 / LEAST) ** share) :]] = False
        asking.append(queries[:QUERIES])
    rows, items = torch.cat(asking).numpy(), kept.nonzero()[:, 0].numpy()
    asked = Retrieval(part.asked.query[rows], part.asked.gallery[items], options=part.asked.options)
    labels = (part.labels[0][rows], part.labels[1][items])
    return LabelledSearch(asked.after(asked.ranking), labels, start + rows)


def _shuffled(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Places where ``mask`` is true, in a random order."""
    places = mask.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=generator)]
