"""Search by attributes: weights into a query vector, filters into an expression, the engine's answer through a re-ranker."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipad_rerank import CandidateReranker
from ipad_rerank.adapters.hits import Fetched, Hit, reranked
from ipad_rerank.rerankers.retrieval import Options
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.columns import find_attribute
from ipad_train.catalogue.conditions import Condition
from ipad_train.catalogue.errors import CatalogueError, NotInCatalogueError
from ipad_train.catalogue.fields import BOXES, EXTRA, FILE, HASH, ID, VECTOR, payload_fields, unpack
from ipad_train.catalogue.manifest import Manifest

SHORTLIST = 200  # hits that a re-ranker orders
MAX_LIMIT = 1000
_WARNINGS = threading.Lock()  # what is caught of them is the whole process'


@dataclass(frozen=True)
class Found:
    """A hit: ``similarity`` is the weighted mean of the cosine similarities, ``score`` that or the re-ranker's.

    ``rank_before`` is the place by similarity, from 1.
    """

    id: str
    file: str
    hash: str
    score: float
    similarity: float
    rank_before: int
    values: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Any]
    boxes: Mapping[str, list[float]]


def check_weights(asked: Mapping[str, float], attributes: tuple[str, ...]) -> np.ndarray:
    """Weights ``(A,)`` that sum to one.

    Raises:
        CatalogueError: an attribute that the model does not have, a weight that is no number of 0 or more, or all zero.
    """
    weights = np.zeros(len(attributes), dtype=np.float64)
    for name, weight in asked.items():
        place = find_attribute(name, attributes)
        if (
            isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not 0 <= weight <= 1e6
            or math.isnan(weight)
        ):
            raise CatalogueError(f"the weight of {name!r} must be a number of 0 or more, got {weight!r}")
        weights[place] = weight
    if not weights.any():
        raise CatalogueError(f"at least one attribute needs a weight above 0; the model has: {', '.join(attributes)}")
    return weights / weights.sum()


class Searcher:
    """Answers searches in an opened catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @property
    def manifest(self) -> Manifest:
        """Of the catalogue."""
        return self.catalogue.manifest

    def vectors_of(self, photo: str) -> np.ndarray:
        """``(A, D)`` of a photo in the catalogue.

        Raises:
            NotInCatalogueError: no photo has the id.
        """
        rows = self.catalogue.engine.rows([photo], [VECTOR]) if _is_id(photo) else {}
        if not rows:
            raise NotInCatalogueError(f"the catalogue has no photo with the id {photo[:40]!r}")
        return np.asarray(rows[photo][VECTOR], dtype=np.float32).reshape(len(self.manifest.attributes), -1)

    def search(
        self,
        vectors: np.ndarray,
        weights: Mapping[str, float],
        condition: Condition | None = None,
        limit: int = 20,
        reranker: CandidateReranker | None = None,
        leave_out: str | None = None,
        among: int | None = None,
    ) -> list[Found]:
        """The nearest photos, best first.

        Without a re-ranker the score is ``sum(w * cos) / sum(w)`` over the attributes, exactly where the index is exact. A
        re-ranker gets the best ``SHORTLIST`` with vectors that have this mean as their cosine similarity.

        Args:
            vectors: ``(A, D)`` of the query photo.
            weights: Attribute -> weight of 0 or more; those left out weigh 0.
            condition: Photos to search among.
            limit: How many.
            leave_out: Id of the query, where it is in the catalogue.
            among: How many photos pass the condition, where that is known; a re-ranker asks.

        Raises:
            CatalogueError: weights or limit out of range.
            EngineError: the engine does not answer.
        """
        share = check_weights(weights, self.manifest.attributes)
        if isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
            raise CatalogueError(f"limit must be within [1, {MAX_LIMIT}], got {limit}")
        expression = "" if condition is None else condition.expression()
        extra = leave_out is not None
        if reranker is None:
            query = (share[:, None] * vectors).reshape(-1)
            answer = self.catalogue.engine.search(query, limit + extra, expression, self._fields())
            hits = [Hit(row[ID], score, (row, score)) for score, row in answer]
        else:
            hits = self._reranked(vectors, share, expression, max(limit, SHORTLIST) + extra, reranker, among)
        hits = [hit for hit in hits if hit.id != leave_out]
        before = sorted(hits, key=lambda hit: -hit.payload[1])
        places = {hit.id: place for place, hit in enumerate(before, start=1)}
        return [self._found(hit, places[hit.id]) for hit in hits[:limit]]

    def _reranked(
        self,
        vectors: np.ndarray,
        share: np.ndarray,
        expression: str,
        depth: int,
        reranker: CandidateReranker,
        among: int | None,
    ) -> list[Hit]:
        active, roots = share > 0, np.sqrt(share)[:, None]
        blocks = (int(active.sum()), vectors.shape[1])

        def fetch(asked: np.ndarray) -> Fetched:
            """The engine's answer to one query ``(1, B * D)`` of the active blocks, each times the root of its weight."""
            query = np.zeros_like(vectors, dtype=np.float32)
            query[active] = asked[0].reshape(blocks) * roots[active]
            answer = self.catalogue.engine.search(query.reshape(-1), depth, expression, [*self._fields(), VECTOR])
            stored = np.array([row.pop(VECTOR) for _, row in answer], dtype=np.float32).reshape(
                len(answer), *vectors.shape
            )
            scaled = (stored * roots)[:, active].reshape(1, len(answer), -1)
            return Fetched([[Hit(row[ID], score, (row, score)) for score, row in answer]], scaled)

        query = (vectors * roots)[active].reshape(1, -1).astype(np.float32)
        among = self.catalogue.engine.count(expression) if among is None else among
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unfamiliar density: the order is then the engine's
            told = Options(on_unfamiliar="fallback", progress=False)
            return reranked(reranker, query, fetch, among, None, told)[0]

    def _fields(self) -> list[str]:
        used = set(self.manifest.fields.values())
        return [
            name
            for name in payload_fields(len(self.manifest.attributes))
            if name in used or name[0] == "v" or name in (FILE, HASH, EXTRA)
        ]

    def _found(self, hit: Hit, before: int) -> Found:
        row, similarity = hit.payload
        row = unpack(row)
        values = {}
        for number, (name, words) in enumerate(self.manifest.values.items()):
            value = int(row.get(f"v{number}", -1))
            if value >= 0:
                values[name] = {"value": words[value], "confidence": round(float(row.get(f"c{number}", 0)), 3)}
        boxes = dict(zip(self.manifest.attributes, row.get(BOXES) or [], strict=False))
        columns = {name: row.get(field) for name, field in self.manifest.fields.items()}
        return Found(
            row[ID], row[FILE], row[HASH], float(hit.score), float(similarity), before, values, columns, boxes
        )


def _is_id(text: str) -> bool:
    return len(text) == 16 and all(letter in "0123456789abcdef" for letter in text)
