"""Bringing a catalogue up to its photo folder: only what is new, changed or gone costs anything.

Every photo is one row that is written whole, and what is there is read from the engine itself: an interruption at any moment
loses at most the photos that were on their way, and the next run goes on with them.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.contents import Contents, Decoded, batches
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import (
    BOXES,
    FILE,
    HASH,
    ID,
    MTIME,
    SIZE,
    STATE,
    TABLE,
    VECTOR,
    pack,
    payload_fields,
    unpack,
)
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.lock import Lease
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.outcome import Outcome
from ipad_train.catalogue.photo_files import PhotoFile
from ipad_train.catalogue.photo_table import PhotoTable
from ipad_train.catalogue.reading import PhotoReader
from ipad_train.value_centers import ValueCenters

FLUSH_PHOTOS = 2000
_PENDING_WRITES = 2


class Indexer:
    """Embeds photos into an opened catalogue whose manifest is stored.

    Args:
        folder: The photos.
        table: Cells of the photos.
        options: Batches, and what to do about photos that cannot be read or look as they did.
        lease: The right to index a server's catalogue; moved on with every write.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        model: CatalogueModel,
        centers: ValueCenters,
        folder: Path,
        table: PhotoTable,
        options: IndexOptions,
        lease: Lease | None = None,
    ) -> None:
        if options.batch_size < 1:
            raise CatalogueError(f"--batch-size must be at least 1, got {options.batch_size}")
        self.catalogue, self.model, self.centers = catalogue, model, centers
        self.folder, self.table, self.options = folder, table, options
        self.outcome = Outcome()
        self._lease, self._unflushed = lease, 0

    def run(self, photos: list[PhotoFile]) -> Outcome:
        """Bring the catalogue up to these photos.

        Raises:
            PhotoError: an unreadable photo, unless they are skipped.
            EngineError: the engine fails, e.g. on a full disk; what was written stays.
        """
        start = time.perf_counter()
        known = {row[ID]: row for row in self.catalogue.engine.iterate(STATE)}
        here = {photo.id for photo in photos}
        same, unread = self._divide(photos, known)
        self._update(same, known)
        self._embed(unread, Contents(known, {photo.id for photo in unread}))
        self._delete([each for each in known if each not in here])  # last: a renamed photo is a copy of such a row
        self._finish()
        self.outcome.seconds = time.perf_counter() - start
        return self.outcome

    def _divide(self, photos: list[PhotoFile], known: dict[str, Any]) -> tuple[list[PhotoFile], list[PhotoFile]]:
        """Photos that look as they did, and those to be read."""
        same, unread = [], []
        for photo in photos:
            row = known.get(photo.id)
            looks_same = row is not None and (row[SIZE], row[MTIME]) == (photo.size, photo.mtime)
            (same if looks_same and not self.options.verify else unread).append(photo)
        return same, unread

    def _delete(self, ids: list[str]) -> None:
        self.catalogue.engine.delete(ids)
        self.outcome.deleted += len(ids)

    def _update(self, photos: list[PhotoFile], known: dict[str, Any]) -> None:
        """Rewrite the rows of unchanged photos whose cells changed; the model is not asked."""
        changed = [photo for photo in photos if known[photo.id][TABLE] != self.table.digest(photo.name)]
        self.outcome.unchanged += len(photos) - len(changed)
        for start in range(0, len(changed), 500):
            part = changed[start : start + 500]
            self._write(self._copies([(photo, photo.id, known[photo.id][HASH]) for photo in part]))
            self.outcome.updated += len(part)

    def _embed(self, photos: list[PhotoFile], contents: Contents) -> None:
        """Read, embed and write; decoding and writing go on in threads beside the model."""
        reader = PhotoReader(self.folder, self.model, contents, 2 * self.options.batch_size, self.options.skip)
        with (
            ThreadPoolExecutor(1, "write") as writer,
            tqdm(total=len(photos), desc="indexing", unit="photo", disable=not self.options.progress) as bar,
        ):
            writes: deque[Future[None]] = deque()
            for batch in batches(reader.read(photos, bar.update), self.options.batch_size):
                writes.append(writer.submit(self._write_batch, batch, self._embedded(batch)))
                while len(writes) > _PENDING_WRITES:
                    writes.popleft().result()
            for write in writes:
                write.result()
        self.outcome.unreadable += [line for _, line in reader.unreadable]
        self.catalogue.engine.delete([photo.id for photo, _ in reader.unreadable])  # that could be read before

    def _embedded(self, batch: list[Decoded]) -> list[dict[str, Any]]:
        """Rows of the photos whose content is new."""
        new = [each for each in batch if each.image is not None]
        if not new:
            return []
        seen = self.model.embed(np.stack([each.image for each in new]))
        values, confidence = self.centers.predict(seen.vectors)
        rows = []
        for i, each in enumerate(new):
            payload: dict[str, Any] = {f"v{a}": int(value) for a, value in enumerate(values[i])}
            payload |= {f"c{a}": round(float(c), 4) for a, c in enumerate(confidence[i]) if values[i, a] >= 0}
            if seen.boxes is not None:
                payload[BOXES] = np.round(seen.boxes[i].astype(float), 3).tolist()
            rows.append(self._row(each.photo, each.hash, payload, seen.vectors[i].reshape(-1)))
        return rows

    def _write_batch(self, batch: list[Decoded], rows: list[dict[str, Any]]) -> None:
        same = [(each.photo, each.source, each.hash) for each in batch if each.image is None]
        self._write(rows + self._copies(same))
        moved = sum(source != photo.id for photo, source, _ in same)
        self.outcome.embedded += len(rows)
        self.outcome.moved += moved
        self.outcome.unchanged += len(same) - moved

    def _copies(self, photos: list[tuple[PhotoFile, str, str]]) -> list[dict[str, Any]]:
        """Rows of photos whose content is stored under an id: what the model said is kept, the cells are the table's."""
        fields = [*payload_fields(len(self.model.attributes)), VECTOR]
        stored = self.catalogue.engine.rows([source for _, source, _ in photos], fields)
        rows = []
        for photo, source, found in photos:
            said = {name: value for name, value in unpack(stored[source]).items() if name[0] in "vc" or name == BOXES}
            said = {name: value for name, value in said.items() if name == BOXES or name[1:].isdigit()}
            rows.append(self._row(photo, found, said, stored[source][VECTOR]))
        return rows

    def _row(self, photo: PhotoFile, found: str, payload: dict[str, Any], vector: Any) -> dict[str, Any]:
        fields = self.catalogue.manifest.fields
        cells = {fields[column]: cell for column, cell in self.table.cells(photo.name).items()}
        return {
            ID: photo.id,
            FILE: photo.name,
            HASH: found,
            SIZE: photo.size,
            MTIME: photo.mtime,
            TABLE: self.table.digest(photo.name),
            VECTOR: np.asarray(vector, dtype=np.float32),
            **pack(payload | cells, len(self.model.attributes)),
        }

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self.catalogue.engine.write(rows)
        self._unflushed += len(rows)
        if self._unflushed >= FLUSH_PHOTOS:
            self.catalogue.engine.flush()
            self._unflushed = 0
        if self._lease is not None:
            self._lease.renew()

    def _finish(self) -> None:
        outcome = self.outcome
        if outcome.embedded or outcome.moved or outcome.updated or outcome.deleted or outcome.unreadable:
            self.catalogue.save(self.catalogue.manifest)
        self.catalogue.engine.flush()
