"""Photos read and decoded in threads, ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ipad_data.errors import ImageDecodeError
from ipad_train.catalogue.contents import Contents, Decoded
from ipad_train.catalogue.errors import PhotoError
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.photo_files import PhotoFile, content_hash, read_photo
from ipad_train.catalogue.uploads import check_image

DECODERS, MAX_PIXELS = 2, 178_000_000


class PhotoReader:
    """Reads photos in order; those whose content the catalogue has are not decoded.

    Args:
        folder: The photos.
        ahead: How many are read before they are asked for.
        skip: Leave unreadable photos out; else the first one is an error.

    Attributes:
        unreadable: Photos that were left out, each with the reason.
    """

    def __init__(self, folder: Path, model: CatalogueModel, contents: Contents, ahead: int, skip: bool) -> None:
        self.folder, self.model, self.contents = folder, model, contents
        self.ahead, self.skip = ahead, skip
        self.unreadable: list[tuple[PhotoFile, str]] = []

    def read(self, photos: list[PhotoFile], passed: Callable[[], object]) -> Iterator[Decoded]:
        """The photos that can be read.

        Args:
            passed: Called after every photo.

        Raises:
            PhotoError: an unreadable photo, unless they are skipped.
        """
        waiting: deque[tuple[PhotoFile, Future[Decoded]]] = deque()
        coming = iter(photos)
        with ThreadPoolExecutor(DECODERS, "decode") as pool:
            while True:
                while len(waiting) < self.ahead and (photo := next(coming, None)) is not None:
                    waiting.append((photo, pool.submit(self._decode, photo)))
                if not waiting:
                    return
                photo, future = waiting.popleft()
                try:
                    yield future.result()
                except (PhotoError, ImageDecodeError) as error:
                    if not self.skip:
                        for _, other in waiting:
                            other.cancel()
                        raise PhotoError(f"{error}. --on-error skip leaves such photos out and lists them") from None
                    self.unreadable.append((photo, f"{photo.name}: {error}"))
                finally:
                    passed()

    def _decode(self, photo: PhotoFile) -> Decoded:
        content = read_photo(self.folder, photo.name)
        found = content_hash(content)
        if (source := self.contents.find(photo.id, found)) is not None:
            return Decoded(photo, found, None, source)
        check_image(content, MAX_PIXELS, photo.name)
        return Decoded(photo, found, self.model.decode(content, photo.name))
