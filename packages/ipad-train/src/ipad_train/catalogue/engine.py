"""The vector engine: Milvus by one client and one schema, embedded (Milvus Lite, in a folder) or as a server.

One collection holds a row a photo. Its vector is that of all attributes, one after the other: ``(A * D,)``, every block of
unit length. A query is the query photo's blocks, each times its weight, and zeros for the attributes that were not asked
for; the inner product of the two is then the weighted sum of the attributes' cosine similarities. So any mix of attributes
is one exact search, a filter acts once, a photo is written and deleted as one row, and servers that allow four vector
fields serve any number of attributes.
"""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipad_train.catalogue.engine_errors import answering, reason
from ipad_train.catalogue.engine_indexes import INDEXES, search_effort
from ipad_train.catalogue.errors import CatalogueError, EngineError
from ipad_train.catalogue.fields import ID, MAX_DIM, VECTOR, fields_of_own
from ipad_train.extras import require

PHOTOS, ABOUT = "ipad_photos", "ipad_about"
TIMEOUT = 10.0  # seconds
_INSERT_BYTES = 16 << 20
_PAGE = 1000  # ids in one call
_MOST = (
    16_384  # rows that a server answers at most; Milvus Lite has no such limit, and reads all photos for every page
)
_PHOTOS_A_PAGE, _EMBEDDED_PAGE = 12_000, 100_000


def is_address(where: str) -> bool:
    """Whether a catalogue is named by a server's address, not by a folder."""
    return "://" in where


class Engine:
    """A Milvus database with the two collections of a catalogue.

    Args:
        where: Folder ``DIR/vectors.db`` of the embedded engine, or a server's address ``http://host:19530[/database]``.
        token: ``user:password`` or a token, for a server that asks for one.

    Raises:
        EngineError: it does not answer.
        ImportError: pymilvus, or milvus-lite for a folder, is not installed.
    """

    def __init__(self, where: str | Path, token: str = "") -> None:
        pymilvus = require("pymilvus", "catalogue")
        for name in ("pymilvus", "milvus_lite"):  # they log what is raised as well
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.where, self.is_embedded = str(where), not is_address(str(where))
        self._types = pymilvus.DataType
        if self.is_embedded:
            require("milvus_lite", "catalogue")
        try:
            self.client = pymilvus.MilvusClient(self.where, token=token, timeout=TIMEOUT, **self._connection())
        except Exception as error:
            check = "is its disk full, or the folder damaged?"
            if not self.is_embedded:
                check = (
                    f"no answer within {TIMEOUT:.0f} s; check that the server runs, the port (19530 by default), the "
                    "firewall, and the token (environment variable IPAD_MILVUS_TOKEN)"
                )
            raise EngineError(f"{self.where}: the engine cannot be opened, {check} ({reason(error)})") from error

    @answering
    def create(self, attributes: int, dim: int, index: str = "FLAT") -> None:
        """Make both collections, empty, in place of what they held.

        Args:
            attributes: A.
            dim: D of one attribute.
            index: One of ``INDEXES``; FLAT is exact.

        Raises:
            CatalogueError: vectors longer than the engine takes.
        """
        if attributes * dim > MAX_DIM:
            raise CatalogueError(
                f"{attributes} attributes of {dim} numbers make a vector of {attributes * dim}, and Milvus takes at most "
                f"{MAX_DIM}; train with a smaller embed_dim, or index fewer attributes"
            )
        self.drop()
        types = self._types
        about = self._schema()
        about.add_field("text", types.VARCHAR, max_length=65_000)
        about.add_field(VECTOR, types.FLOAT_VECTOR, dim=dim)
        self._create(ABOUT, about, "FLAT")
        photos = self._schema()
        for field in fields_of_own(attributes):
            photos.add_field(field.name, getattr(types, field.type), **field.options)
        photos.add_field(VECTOR, types.FLOAT_VECTOR, dim=attributes * dim)
        self._create(PHOTOS, photos, index)

    @answering
    def drop(self) -> None:
        """Remove both collections."""
        for name in (PHOTOS, ABOUT):
            if self.client.has_collection(name, timeout=TIMEOUT):
                self.client.drop_collection(name, timeout=TIMEOUT)
            if self.is_embedded:  # killed while it makes or drops one, a process leaves a folder without a schema
                shutil.rmtree(Path(self.where) / "collections" / name, ignore_errors=True)

    @answering
    def load(self) -> bool:
        """Whether there are both collections; they are then ready to be asked."""
        if not all(self.client.has_collection(name, timeout=TIMEOUT) for name in (PHOTOS, ABOUT)):
            return False
        for name in (ABOUT, PHOTOS):
            self.client.load_collection(name, timeout=6 * TIMEOUT)
        return True

    @answering
    def write(self, rows: Sequence[dict[str, Any]], collection: str = PHOTOS) -> None:
        """Insert rows, in place of those with the same ids."""
        step = max(1, _INSERT_BYTES // (4 * len(rows[0][VECTOR]))) if rows else 1
        for start in range(0, len(rows), step):
            self.client.upsert(collection, list(rows[start : start + step]), timeout=6 * TIMEOUT)

    @answering
    def delete(self, ids: Sequence[str], collection: str = PHOTOS) -> None:
        """Delete rows by id."""
        for start in range(0, len(ids), _PAGE):
            self.client.delete(collection, ids=list(ids[start : start + _PAGE]), timeout=6 * TIMEOUT)

    @answering
    def flush(self) -> None:
        """Write what was inserted into the files that searches read fast; a server does so by itself."""
        for name in (PHOTOS, ABOUT) if self.is_embedded else ():
            self.client.flush(name, timeout=60 * TIMEOUT)

    @answering
    def count(self, expression: str = "") -> int:
        """Photos, or those that a filter leaves."""
        if expression and self.is_embedded:  # which reads whole rows, vectors among them, to count some of them
            return len(self._page(expression, ()))
        answer = self.client.query(
            PHOTOS, filter=expression, output_fields=["count(*)"], timeout=TIMEOUT, consistency_level="Strong"
        )
        return int(answer[0]["count(*)"])

    @answering
    def search(
        self,
        vector: np.ndarray,
        limit: int,
        expression: str = "",
        fields: Sequence[str] = (),
        effort: dict[str, int] | None = None,
    ) -> list[tuple[float, dict[str, Any]]]:
        """The best ``limit`` photos for a query ``(A * D,)``: inner product and row, best first.

        ``effort`` are parameters of the search; by default those of :func:`search_effort`.
        """
        effort = search_effort(self._kind, limit) if effort is None else effort
        answer = self.client.search(
            PHOTOS,
            data=[np.asarray(vector, np.float32).tolist()],
            limit=limit,
            filter=expression,
            anns_field=VECTOR,
            output_fields=list(fields),
            search_params={"metric_type": "IP", "params": effort},
            timeout=TIMEOUT,
        )
        return [(float(hit["distance"]), {ID: hit[ID], **hit["entity"]}) for hit in answer[0]]

    @answering
    def rows(self, ids: Sequence[str], fields: Sequence[str], collection: str = PHOTOS) -> dict[str, dict[str, Any]]:
        """Rows by id; ids that are not there are absent."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), _PAGE):
            part = list(ids[start : start + _PAGE])
            answer = self.client.get(
                collection, ids=part, output_fields=[ID, *fields], timeout=TIMEOUT, consistency_level="Strong"
            )
            found |= {row[ID]: dict(row) for row in answer}
        return found

    def iterate(self, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """All photos, in the order of their ids.

        Ids are 16 hexadecimal digits that are spread evenly, so equal ranges of them are pages of about one size. Unlike
        offsets they stay where they are while rows are written, and unlike a cursor they survive a lost connection.
        """
        pages = -(-self.count() // (_EMBEDDED_PAGE if self.is_embedded else _PHOTOS_A_PAGE)) or 1
        bounds = [f"{page * 16**16 // pages:016x}" for page in range(pages)] + ["g"]  # behind every digit
        for low, high in itertools.pairwise(bounds):
            yield from self._page(f'{ID} >= "{low}" and {ID} < "{high}"', fields)

    @answering
    def _page(self, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        rows = self.client.query(
            PHOTOS,
            filter=expression,
            output_fields=[ID, *fields],
            timeout=60 * TIMEOUT,
            consistency_level="Strong",
            limit=10 * _EMBEDDED_PAGE if self.is_embedded else _MOST,
        )
        return sorted((dict(row) for row in rows), key=lambda row: row[ID])

    def close(self) -> None:
        """Let go of the engine; an embedded one is then free for another process."""
        self.client.close()
        if self.is_embedded:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.where)

    def _connection(self) -> dict[str, Any]:
        """Pings keep a connection to a server alive; Milvus Lite, on this machine, complains of them on the terminal."""
        return {"grpc_options": {"grpc.keepalive_time_ms": 2**31 - 1}} if self.is_embedded else {}

    def _schema(self) -> Any:
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ID, self._types.VARCHAR, is_primary=True, max_length=64)
        return schema

    def _create(self, name: str, schema: Any, index: str) -> None:
        parameters = self.client.prepare_index_params()
        parameters.add_index(VECTOR, index_type=index, metric_type="IP", params=INDEXES[index])
        self.client.create_collection(
            name, schema=schema, index_params=parameters, timeout=3 * TIMEOUT, consistency_level="Bounded"
        )

    @functools.cached_property
    def _kind(self) -> str:
        names = self.client.list_indexes(PHOTOS)
        return str(self.client.describe_index(PHOTOS, names[0]).get("index_type", "FLAT")) if names else "FLAT"
