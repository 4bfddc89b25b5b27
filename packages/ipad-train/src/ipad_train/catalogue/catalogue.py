"""A catalogue: an engine, what it says of itself, and what may be asked of it."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from ipad_train.catalogue.columns import Columns
from ipad_train.catalogue.engine import Engine, is_address
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.lock import lock_folder
from ipad_train.catalogue.manifest import Manifest, read_manifest, write_manifest

DATABASE = "vectors.db"
TOKEN = "IPAD_MILVUS_TOKEN"  # environment variable with a server's token


class Catalogue:
    """An opened catalogue; close it, or use it in ``with``.

    Args:
        where: A folder, or a server's address ``http://host:19530[/database]``.
        purpose: What the process does with it: ``indexes``, ``searches``, ``serves``.
        make: Make the folder where it is missing.
        anew: It is to be made anew: a manifest that cannot be read is no hindrance.

    Raises:
        CatalogueError: there is no catalogue.
        BusyError: another process is at it.
        EngineError: the engine does not answer.
    """

    def __init__(self, where: str, purpose: str, make: bool = False, anew: bool = False) -> None:
        self.where, self._lock = where, None
        if is_address(where):
            self.engine = Engine(where, os.environ.get(TOKEN, ""))
        else:
            folder = Path(where).expanduser()
            if not make and not (folder / DATABASE).is_dir():
                raise CatalogueError(
                    f"{where} is no catalogue; `ipad-train index PHOTOS --model RUN --catalogue {where}` makes one"
                )
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(folder, purpose)
            try:
                self.engine = Engine(folder / DATABASE)
            except BaseException:
                self._lock.release()
                raise
        try:
            self.stored = self._read(anew) if self.engine.load() else None
            if self.stored is None and not make:
                raise CatalogueError(f"{where} holds no finished catalogue; run `ipad-train index` first")
        except BaseException:
            self.close()
            raise

    def _read(self, anew: bool) -> Manifest | None:
        try:
            return read_manifest(self.engine)
        except CatalogueError:
            if anew:
                return None
            raise

    @property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            CatalogueError: nothing was indexed yet.
        """
        if self.stored is None:
            raise CatalogueError(f"{self.where} holds no finished catalogue; run `ipad-train index` first")
        return self.stored

    @property
    def columns(self) -> Columns:
        """What filters may name."""
        return Columns.of(self.manifest)

    def save(self, manifest: Manifest) -> None:
        """Store a manifest, as of now."""
        self.stored = dataclasses.replace(manifest, updated=datetime.now(UTC).isoformat())
        write_manifest(self.engine, self.stored)

    def refresh(self) -> bool:
        """Read the manifest again; whether it changed, as another process wrote photos."""
        found = read_manifest(self.engine)
        changed = found is not None and found != self.stored
        self.stored = found or self.stored
        return changed

    def close(self) -> None:
        """Let other processes in."""
        try:
            self.engine.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
