"""What the service holds: the catalogue, the model, the snapshot of all photos, uploads, and maps of attention."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ipad_data.errors import ImageDecodeError
from ipad_data.transforms.shrink import shrink_image
from ipad_rerank import CandidateReranker
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.columns import Columns, find_attribute
from ipad_train.catalogue.errors import EngineError, NotInCatalogueError, PhotoError
from ipad_train.catalogue.manifest import read_centers
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.photo_files import content_hash, read_photo
from ipad_train.catalogue.reading import MAX_PIXELS
from ipad_train.catalogue.rerankers import find_reranker
from ipad_train.catalogue.searching import Searcher
from ipad_train.catalogue.service.kept import Kept, Upload, heat_png
from ipad_train.catalogue.snapshot import Snapshot
from ipad_train.catalogue.uploads import check_image

REFRESH_SECONDS = 5.0
THUMBNAIL = 320  # px of the shorter side
_KEPT_UPLOADS, _KEPT_PICTURES, _KEPT_MAPS, _KEPT_RERANKERS = 200, 2000, 2000, 8


class State:
    """Everything that requests share.

    Args:
        photos: The photo folder; by default the one that was indexed.
        max_pixels: Of an upload.
    """

    def __init__(self, catalogue: Catalogue, model: CatalogueModel, photos: Path | None, max_pixels: int) -> None:
        self.catalogue, self.model, self.max_pixels = catalogue, model, max_pixels
        self.folder = Path(catalogue.manifest.folder) if photos is None else photos
        self.searcher = Searcher(catalogue)
        self.centers = read_centers(catalogue.engine, catalogue.manifest)
        self._model_lock, self._snapshot_lock, self._looked = threading.Lock(), threading.Lock(), time.monotonic()
        self._snapshot = Snapshot(catalogue.engine, catalogue.manifest)
        self._uploads, self._pictures, self._maps = Kept(_KEPT_UPLOADS), Kept(_KEPT_PICTURES), Kept(_KEPT_MAPS)
        self._rerankers = Kept(_KEPT_RERANKERS)
        blank = np.zeros((model.detail_size, model.detail_size, 3), dtype=np.uint8)
        self.has_attention = model.attention(blank, model.attributes[0]) is not None

    @property
    def snapshot(self) -> Snapshot:
        """All photos; made anew where another process has indexed since (looked up every few seconds)."""
        with self._snapshot_lock:
            if not self.catalogue.engine.is_embedded and time.monotonic() - self._looked > REFRESH_SECONDS:
                try:
                    if self.catalogue.refresh():
                        self._snapshot = Snapshot(self.catalogue.engine, self.catalogue.manifest)
                    self._looked = time.monotonic()
                except EngineError:  # lists go on with what is known; searches say what is wrong
                    self._looked = time.monotonic() + 6 * REFRESH_SECONDS
            return self._snapshot

    @property
    def columns(self) -> Columns:
        """What filters may name."""
        return self.catalogue.columns

    def describe(self, photo: str) -> dict[str, Any]:
        """Name, values and columns of a photo, and whether the file still is what was indexed.

        Raises:
            NotInCatalogueError: no photo has the id.
        """
        self._check(photo)
        found = self.snapshot.describe(photo)
        try:
            content = read_photo(self.folder, found["file"])
            status = "as indexed" if content_hash(content) == self._hash(photo) else "changed since it was indexed"
        except PhotoError:
            status = "no longer in the photo folder"
        return {**found, "status": status}

    def picture(self, photo: str, size: int) -> tuple[bytes, str]:
        """A JPEG of a photo as it is now, and the hash of its content.

        Raises:
            NotInCatalogueError: no photo has the id.
            PhotoError: its file is gone, is no image any more, or lies outside the folder.
        """
        self._check(photo)
        name = self.snapshot.files[self.snapshot.place[photo]]
        content = read_photo(self.folder, name)
        found = content_hash(content)
        return self._pictures.get((found, size), lambda: self._shrunk(content, size, name)), found

    def upload(self, content: bytes) -> tuple[str, Upload]:
        """Decode and embed a photo of a visitor; its id is the hash of its content.

        Raises:
            PhotoError: no image of a known format, damaged, or too many pixels.
        """
        key = content_hash(content)
        if (known := self._uploads.get(key)) is not None:
            return key, known
        check_image(content, self.max_pixels, "upload")
        try:
            image = self.model.decode(content, "upload")
        except ImageDecodeError as error:
            raise PhotoError(str(error)) from None
        with self._model_lock:
            vectors = self.model.embed(image[None]).vectors
        values, confidence = self.centers.predict(vectors)
        shown = {
            name: {"value": words[values[0, i]], "confidence": round(float(confidence[0, i]), 3)}
            for i, (name, words) in enumerate(self.catalogue.manifest.values.items())
            if values[0, i] >= 0
        }
        self._uploads.put(key, made := Upload(image, vectors[0], shown))
        return key, made

    def uploaded(self, key: str) -> Upload:
        """An upload by its id.

        Raises:
            NotInCatalogueError: it is not, or no longer, kept.
        """
        found = self._uploads.get(key)
        if found is None:
            raise NotInCatalogueError("this upload is not kept any more; upload the photo again")
        return found

    def attention(self, photo: str | None, upload: str | None, attribute: str) -> bytes | None:
        """A PNG with the heat of the model's attention, to be laid over the photo; None for a model without attention.

        Raises:
            CatalogueError: no such photo, upload or attribute.
        """
        find_attribute(attribute, self.model.attributes)
        if upload is not None:
            image, key = self.uploaded(upload).image, upload
            return self._maps.get((key, attribute), lambda: self._heat(image, attribute))
        self._check(photo or "")
        name = self.snapshot.files[self.snapshot.place[photo]]
        content = read_photo(self.folder, name)

        def make() -> bytes | None:
            check_image(content, MAX_PIXELS, name)
            try:
                return self._heat(self.model.decode(content, name), attribute)
            except ImageDecodeError as error:
                raise PhotoError(str(error)) from None

        return self._maps.get((content_hash(content), attribute), make)

    def reranker(self, name: str) -> CandidateReranker:
        """A re-ranker by name.

        Raises:
            CatalogueError: there is none.
        """
        return self._rerankers.get(name, lambda: find_reranker(name, self.model.folder, folders=False))

    def _heat(self, image: np.ndarray, attribute: str) -> bytes | None:
        with self._model_lock:
            heat = self.model.attention(image, attribute)
        return None if heat is None else heat_png(heat)

    def _shrunk(self, content: bytes, size: int, name: str) -> bytes:
        check_image(content, MAX_PIXELS, name)
        try:
            return shrink_image(content, size, quality=85, name=name)
        except ImageDecodeError as error:
            raise PhotoError(str(error)) from None

    def _hash(self, photo: str) -> str:
        return self.snapshot.hashes[self.snapshot.place[photo]]

    def _check(self, photo: str) -> None:
        if photo not in self.snapshot.place:
            raise NotInCatalogueError(f"the catalogue has no photo with the id {photo[:40]!r}")
