"""What the queries find, before and after re-ranking, and which of them are worth a look (as Fig. 8 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipad_data import AttributeSchema
from ipad_rerank import Ranking
from ipad_rerank.metrics import average_precision
from ipad_rerank.rerankers.base import BaseReranker
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import rank_twice
from ipad_train.report.attention import value_name
from ipad_train.report.pictures import SplitPictures

MAX_TYPICAL = 8  # attributes of which a typical query is shown


@dataclass(frozen=True)
class Retrieval:
    """Rankings of all queries, cut to the best k; entries of ``gallery`` by index, -1 where a gallery is smaller.

    ``top``, ``top_after (Q, k)``; ``former (Q, k)`` places, from 0, that ``top_after`` had before; ``precision``,
    ``precision_after (Q,)`` AP over the full ranking. Those after re-ranking equal those before where there is none.

    ``reranked`` says whether a re-ranker moved anything; ``left_alone`` that there is one, and it left every ranking as it
    came, as it does in galleries that are unlike those of its fit.
    """

    query: EntryEmbeddings
    gallery: EntryEmbeddings
    top: np.ndarray
    top_after: np.ndarray
    former: np.ndarray
    precision: np.ndarray
    precision_after: np.ndarray
    reranked: bool
    left_alone: bool

    @property
    def gain(self) -> np.ndarray:
        """``(Q,)`` change of the AP."""
        return self.precision_after - self.precision


@dataclass(frozen=True)
class Answer:
    """A place in a ranking: the picture, its file, its value, whether that is the query's, and the place it had before."""

    place: int
    image_id: int
    file: str | None
    picture: str
    value: str
    right: bool
    former: int | None = None


@dataclass(frozen=True)
class QueryRow:
    """A query with its answers; ``after`` is None where nothing was re-ranked. APs in percent."""

    title: str
    attribute: str
    value: str
    image_id: int
    file: str | None
    picture: str
    before: list[Answer]
    after: list[Answer] | None
    precision: float
    precision_after: float


def retrieve(
    query: EntryEmbeddings, gallery: EntryEmbeddings, reranker: BaseReranker | None, k: int = 10
) -> Retrieval:
    """Rank every query within its attribute, with and without re-ranking, as an evaluation does."""
    count = len(query.value_ids)
    top, top_after, former = (np.full((count, k), -1, dtype=np.int64) for _ in range(3))
    precision, precision_after = np.zeros(count), np.zeros(count)
    for attribute in np.unique(query.attribute_ids):
        mine, theirs = (np.flatnonzero(part.attribute_ids == attribute) for part in (query, gallery))
        if not len(theirs):
            continue
        before, after = rank_twice(reranker, query.fused[mine], gallery.fused[theirs])
        labels = query.value_ids[mine], gallery.value_ids[theirs]
        precision[mine], precision_after[mine] = average_precision(before, *labels), average_precision(after, *labels)
        kept = min(k, len(theirs))
        top[mine, :kept], top_after[mine, :kept] = theirs[before.indices[:, :k]], theirs[after.indices[:, :k]]
        former[mine, :kept] = _places(before, after.indices[:, :k])
    moved = bool((former != _untouched(top)).any() or (precision_after != precision).any())
    left_alone = reranker is not None and not moved
    return Retrieval(query, gallery, top, top_after, former, precision, precision_after, moved, left_alone)


def choose_queries(retrieval: Retrieval, schema: AttributeSchema) -> list[tuple[str, int]]:
    """Queries to show, with why: where re-ranking helped most, where it hurt most, a typical one of each attribute.

    Typical is the median AP before re-ranking, so that neither side is flattered.
    """
    chosen: list[tuple[str, int]] = []
    gain = retrieval.gain
    if len(gain) and gain.max() > 0:
        chosen.append(("Where re-ranking helped most", int(gain.argmax())))
    if len(gain) and gain.min() < 0:
        chosen.append(("Where re-ranking hurt most", int(gain.argmin())))
    for attribute_id, attribute in enumerate(schema.attributes):
        mine = np.flatnonzero(retrieval.query.attribute_ids == attribute_id)
        if len(mine) and attribute_id < MAX_TYPICAL:
            order = mine[np.argsort(retrieval.precision[mine], kind="stable")]
            chosen.append((f"A typical query of {attribute.replace('_', ' ')}", int(order[(len(order) - 1) // 2])))
    return chosen


def query_row(
    title: str, index: int, retrieval: Retrieval, pictures: SplitPictures, schema: AttributeSchema
) -> QueryRow:
    """A query with the pictures of its answers."""
    query = retrieval.query
    image_id = int(query.image_ids[index])
    after = _answers(index, retrieval, pictures, schema, after=True) if retrieval.reranked else None
    return QueryRow(
        title,
        schema.attributes[query.attribute_ids[index]].replace("_", " "),
        value_name(schema, int(query.value_ids[index])),
        image_id,
        pictures.file_name(image_id),
        pictures.thumbnail(image_id, 128),
        _answers(index, retrieval, pictures, schema, after=False),
        after,
        100 * float(retrieval.precision[index]),
        100 * float(retrieval.precision_after[index]),
    )


def _answers(
    index: int, retrieval: Retrieval, pictures: SplitPictures, schema: AttributeSchema, after: bool
) -> list[Answer]:
    answers = []
    gallery, value = retrieval.gallery, retrieval.query.value_ids[index]
    for place, entry in enumerate((retrieval.top_after if after else retrieval.top)[index].tolist()):
        if entry >= 0:
            image_id, found = int(gallery.image_ids[entry]), int(gallery.value_ids[entry])
            former = int(retrieval.former[index, place]) + 1 if after else None
            answers.append(
                Answer(
                    place + 1,
                    image_id,
                    pictures.file_name(image_id),
                    pictures.thumbnail(image_id),
                    value_name(schema, found),
                    found == value,
                    former,
                )
            )
    return answers


def _untouched(top: np.ndarray) -> np.ndarray:
    """``(Q, k)`` places of answers that nothing moved, -1 where there is no answer."""
    return np.where(top < 0, -1, np.arange(top.shape[1]))


def _places(ranking: Ranking, indices: np.ndarray) -> np.ndarray:
    """Where each query's ``indices`` stand in its full ranking."""
    places = np.empty_like(indices)
    inverse = np.empty(ranking.k, dtype=np.int64)
    for i, order in enumerate(ranking.indices):
        inverse[order] = np.arange(ranking.k)
        places[i] = inverse[indices[i]]
    return places
