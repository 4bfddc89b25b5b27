"""Re-ranked search in a FAISS index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ipad_rerank.adapters.hits import EngineSearch, Fetched, Hit
from ipad_rerank.files.extras import require

if TYPE_CHECKING:
    import faiss


class FaissSearch(EngineSearch):
    """Fetch the top k from a FAISS index with their vectors, re-rank them, return ids in the new order.

    Args:
        index: A FAISS index on the CPU. Its vectors are reconstructed, which compressed indices do approximately.
        payload: What to return with each id: a mapping from ids, or a sequence where ids are positions.
        vectors: The vectors themselves, instead of reconstructed ones: an array ``(N, D)`` (or memory map) where ids
            are positions, or a function from ids ``(n,)`` to ``(n, D)``.

    Example::

        search = FaissSearch(faiss.read_index("photos.faiss"), payload=paths)
        for hit in search(query, k=500, reranker=FeatureReasoning.from_pretrained("reasoner"), limit=10)[0]:
            print(hit.id, hit.score, hit.payload)
    """

    def __init__(
        self,
        index: faiss.Index,
        payload: Mapping[int, Any] | Sequence[Any] | None = None,
        vectors: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._faiss = require("faiss", "faiss")
        if not isinstance(index, self._faiss.Index):
            raise TypeError(f"index must be a faiss.Index, got {type(index).__name__}")
        self.index, self.payload, self.vectors = index, payload, vectors

    def describe(self) -> tuple[int, int | None]:
        return self.index.d, int(self.index.ntotal) or None

    def fetch(self, query: np.ndarray, k: int, params: faiss.SearchParameters | None = None) -> Fetched:
        """The index's answer; ``params`` is a ``faiss.SearchParameters``, such as ``SearchParametersIVF(nprobe=16)``.

        Raises:
            ValueError: an index that cannot give its vectors back, an id without a payload.
        """
        ids, vectors = self._search(query, min(k, max(int(self.index.ntotal), 1)), params)
        return Fetched([[Hit(int(i), 0.0, self._payload(int(i))) for i in row if i >= 0] for row in ids], vectors)

    def _search(
        self, queries: np.ndarray, k: int, params: faiss.SearchParameters | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``ids (Q, k)``, -1 where there is none, and ``vectors (Q, k, D)``, 0 there."""
        if self.vectors is not None:
            ids = self.index.search(queries, k, params=params)[1]
            vectors = np.zeros((*ids.shape, self.index.d), dtype=np.float32)
            found = ids >= 0
            vectors[found] = self.vectors(ids[found]) if callable(self.vectors) else self.vectors[ids[found]]
            return ids, vectors
        index, id_map = self.index, None
        if isinstance(index, self._faiss.IndexIDMap) and not isinstance(index, self._faiss.IndexIDMap2):
            # It cannot reconstruct by itself; the index inside can, under its own numbers.
            id_map = self._faiss.vector_to_array(index.id_map)
            index = self._faiss.downcast_index(index.index)
        try:
            _, ids, vectors = index.search_and_reconstruct(queries, k, params=params)
        except RuntimeError as error:
            raise ValueError(
                f"index of type {type(index).__name__} cannot give its vectors back; pass them as vectors=... ({error})"
            ) from error
        missing = ids < 0
        vectors[missing] = 0
        return (ids if id_map is None else np.where(missing, -1, id_map[ids])), vectors

    def _payload(self, item: int) -> Any:
        try:
            return None if self.payload is None else self.payload[item]
        except (KeyError, IndexError) as error:
            raise ValueError(f"payload has nothing for id {item}, which the index returned") from error
