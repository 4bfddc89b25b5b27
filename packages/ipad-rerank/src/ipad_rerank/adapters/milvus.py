"""Re-ranked search in a Milvus collection: an embedded file (Milvus Lite), a server or a cluster, by the same client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ipad_rerank.adapters.hits import EngineSearch, Fetched, Hit, as_queries
from ipad_rerank.files.extras import require
from ipad_rerank.search.memory import slices
from ipad_rerank.search.vectors import ArrayLike, Vectors

if TYPE_CHECKING:
    import pymilvus

_ANSWER_BYTES = 16 << 20  # vectors asked for in one call
_INSERT_BYTES = 8 << 20


class MilvusSearch(EngineSearch):
    """Fetch the top k from a Milvus collection with their vectors, re-rank them, return ids in the new order.

    Args:
        collection: Name of the collection.
        uri: A file such as ``"photos.db"`` is opened with Milvus Lite, embedded; ``"http://host:19530"`` is a server.
        vector_field: Name of the vector field; needed where a collection has several.
        client: A ``pymilvus.MilvusClient`` to use instead of opening ``uri``.
        **connection: For the client: ``token``, ``db_name``, ...

    Example::

        search = MilvusSearch("photos", "photos.db")
        search.add(vectors, ids=range(len(vectors)), payload=[{"path": path} for path in paths])
        for hit in search(query, k=500, reranker=reasoner, limit=10)[0]:
            print(hit.id, hit.score, hit.payload["path"])
    """

    def __init__(
        self,
        collection: str,
        uri: str = "ipad-rerank.db",
        *,
        vector_field: str | None = None,
        client: pymilvus.MilvusClient | None = None,
        **connection: Any,
    ) -> None:
        pymilvus = require("pymilvus", "milvus")
        self._float_vector = pymilvus.DataType.FLOAT_VECTOR
        self.client = pymilvus.MilvusClient(str(uri), **connection) if client is None else client
        self.collection, self.vector_field = collection, vector_field

    def describe(self) -> tuple[int, int | None]:
        dim = self._describe()[2]
        return dim, int(self.client.get_collection_stats(self.collection)["row_count"]) or None

    def fetch(self, query: np.ndarray, k: int, payload_fields: Sequence[str] = ("*",), **options: Any) -> Fetched:
        """The collection's answer.

        Args:
            query: ``(Q, D)``.
            k: How many to fetch.
            payload_fields: Stored fields to return with each hit; all but the vector by default.
            **options: For ``MilvusClient.search``: ``filter``, ``search_params``, ``partition_names``, ...

        Raises:
            ValueError: no such collection, no or several float vector fields, a payload field that no hit has.
            TypeError: ``output_fields``, which is ``payload_fields`` here.
        """
        if "output_fields" in options:
            raise TypeError("MilvusSearch asks for the vectors itself: name the other fields in payload_fields")
        vector, key, dim = self._describe()
        vectors = np.zeros((len(query), k, dim), dtype=np.float32)
        hits: list[list[Hit]] = []
        for part in slices(len(query), max(1, _ANSWER_BYTES // (4 * dim * k))):
            answers = self.client.search(
                self.collection,
                data=query[part].tolist(),
                limit=k,
                anns_field=vector,
                output_fields=[*payload_fields, vector],
                **options,
            )
            for answer in answers:
                for column, found in enumerate(answer):
                    vectors[len(hits), column] = found["entity"][vector]
                hits.append([_hit(found, vector, key) for found in answer])
        present = {name for row in hits for hit in row for name in hit.payload} | {key}
        absent = [name for name in payload_fields if name != "*" and name not in present]
        if absent and any(hits):
            fields = sorted(field["name"] for field in self.client.describe_collection(self.collection)["fields"])
            raise ValueError(f"payload_fields: no hit has {', '.join(absent)}; there are {', '.join(fields)}")
        return Fetched(hits, vectors)

    def add(
        self, vectors: ArrayLike, ids: Sequence[int | str], payload: Sequence[Mapping[str, object]] | None = None
    ) -> None:
        """Store vectors ``(N, D)`` with ids (whole numbers or strings) and fields; makes the collection if missing.

        A collection made here compares by cosine, calls its fields "id" and "vector" and takes any further fields.
        """
        rows = Vectors(vectors, "vectors")
        for name, other in (("ids", ids), ("payload", payload)):
            if other is not None and len(other) != len(rows):
                raise ValueError(f"{name} has {len(other)} entries, vectors has {len(rows)} rows; they must be equal")
        if not self.client.has_collection(self.collection):
            keys = {"id_type": "string", "max_length": 512} if isinstance(ids[0], str) else {}
            self.client.create_collection(self.collection, dimension=rows.dim, metric_type="COSINE", **keys)
        vector, key, dim = self._describe()
        array = as_queries(vectors, dim)
        stored, keys = [{}] * len(rows) if payload is None else payload, np.asarray(ids).tolist()
        for part in slices(len(rows), max(1, _INSERT_BYTES // (4 * dim))):
            found = zip(stored[part], keys[part], array[part].tolist(), strict=True)
            self.client.insert(self.collection, [{**each, key: i, vector: v} for each, i, v in found])

    def _describe(self) -> tuple[str, str, int]:
        """Vector field, primary field, dimension."""
        if not self.client.has_collection(self.collection):
            others = ", ".join(self.client.list_collections()) or "none"
            raise ValueError(f"collection {self.collection!r} does not exist; there are: {others}")
        fields = self.client.describe_collection(self.collection)["fields"]
        key = next(field["name"] for field in fields if field.get("is_primary"))
        vectors = {field["name"]: field for field in fields if field["type"] == self._float_vector}
        wanted = [self.vector_field] if self.vector_field is not None else list(vectors)
        if len(wanted) != 1 or wanted[0] not in vectors:
            raise ValueError(
                f"vector_field must be a float vector field of {self.collection!r} ({', '.join(vectors) or 'none'}), "
                f"got {self.vector_field!r}"
            )
        return wanted[0], key, int(vectors[wanted[0]]["params"]["dim"])


def _hit(found: Mapping[str, Any], vector: str, key: str) -> Hit:
    payload = {name: value for name, value in found["entity"].items() if name != vector}
    return Hit(found[key], float(found["distance"]), payload)
