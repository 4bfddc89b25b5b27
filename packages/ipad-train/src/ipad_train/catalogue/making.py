"""`ipad-train index`: open or make a catalogue, check that it is the model's and the folder's, and bring it up to date."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.engine_indexes import INDEXES
from ipad_train.catalogue.errors import CatalogueError, EngineError
from ipad_train.catalogue.fields import assign_columns
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.indexing import Indexer
from ipad_train.catalogue.lock import Lease
from ipad_train.catalogue.manifest import Manifest, read_centers, write_centers
from ipad_train.catalogue.model import CatalogueModel, check_same_model
from ipad_train.catalogue.naming import find_centers
from ipad_train.catalogue.outcome import Outcome
from ipad_train.catalogue.photo_files import find_photos
from ipad_train.catalogue.photo_table import NO_TABLE, PhotoTable, find_table, read_photo_table
from ipad_train.value_centers import ValueCenters


def index_photos(
    photos: Path, source: str, where: str, options: IndexOptions, announce: Callable[[str], None]
) -> Outcome:
    """Bring the catalogue ``where`` up to the photos of a folder.

    Raises:
        CatalogueError: no photos, another model's catalogue, another folder's, a table that does not fit.
        BusyError: another process is at it.
        EngineError: the engine does not answer, or its disk is full.
        FileNotFoundError, ValueError: ``source`` is no model.
    """
    if options.index not in INDEXES:
        raise CatalogueError(f"--engine-index must be one of {', '.join(INDEXES)}, got {options.index!r}")
    files, left_out = find_photos(photos)
    model = CatalogueModel.open(source)
    with Catalogue(where, "indexes", make=True, anew=options.rebuild) as catalogue, _lease(catalogue, model) as lease:
        if catalogue.stored is not None and not options.rebuild:
            check_same_model(model, catalogue.stored.made_by, where)
            _check_folder(catalogue.stored, photos, where, options.moved)
        anew = catalogue.stored is None or options.rebuild
        table = _table(photos, options, {} if anew else catalogue.manifest.kinds)
        if anew:
            centers = _start(catalogue, model, photos, options.index, announce)
        else:
            centers = read_centers(catalogue.engine, catalogue.manifest)
        if lease is not None:
            lease.dim = catalogue.manifest.dim
            lease.renew()
        _keep_up(catalogue, photos, table)
        announce(
            f"{len(files)} photos, {len(model.attributes)} attributes, {len(table.kinds)} columns of a table; "
            f"catalogue {where}"
        )
        outcome = Indexer(catalogue, model, centers, photos, table, options, lease).run(files)
    outcome.unreadable[:0] = left_out
    return outcome


@contextmanager
def _lease(catalogue: Catalogue, model: CatalogueModel) -> Iterator[Lease | None]:
    """The right to index a server's catalogue while it lasts; an embedded one is locked as a folder."""
    if catalogue.engine.is_embedded:
        yield None
        return
    dim = catalogue.stored.dim if catalogue.stored else _dim(model)
    if catalogue.stored is None:
        catalogue.engine.create(len(model.attributes), dim)
        catalogue.engine.load()
    lease = Lease(catalogue.engine, dim)
    try:
        yield lease
    finally:
        with suppress(EngineError):  # it ends by itself
            lease.release()


def _dim(model: CatalogueModel) -> int:
    """D of one attribute."""
    return model.embed(np.zeros((1, model.detail_size, model.detail_size, 3), dtype=np.uint8)).vectors.shape[2]


def _start(
    catalogue: Catalogue, model: CatalogueModel, photos: Path, index: str, announce: Callable[[str], None]
) -> ValueCenters:
    """Make the collections; the manifest comes last, so that an interruption leaves nothing half made."""
    dim = _dim(model)
    centers = find_centers(model, dim, announce)
    catalogue.engine.create(len(model.attributes), dim, index)
    catalogue.engine.load()
    write_centers(catalogue.engine, centers)
    values = {name: list(words) for name, words in model.values.items()}
    temperatures = [float(each) for each in centers.temperatures]
    catalogue.save(
        Manifest(
            model.source,
            model.fingerprint,
            values,
            dim,
            model.detail_size,
            str(photos.resolve()),
            temperatures=temperatures,
            index=index,
        )
    )
    catalogue.engine.flush()
    return centers


def _check_folder(stored: Manifest, photos: Path, where: str, moved: bool) -> None:
    if stored.folder != str(photos.resolve()) and not moved:
        raise CatalogueError(
            f"{where} holds the photos of {stored.folder}, and would lose those that {photos} does not have. If the "
            "folder was moved, add --moved; for another folder take another --catalogue"
        )


def _table(photos: Path, options: IndexOptions, kinds: dict[str, str]) -> PhotoTable:
    path = options.table or (None if options.no_table else find_table(photos))
    return NO_TABLE if path is None else read_photo_table(path, kinds, options.image_column)


def _keep_up(catalogue: Catalogue, photos: Path, table: PhotoTable) -> None:
    """Store the columns and the folder as they are now."""
    stored = catalogue.manifest
    kinds = {**stored.kinds, **table.kinds}
    changed = dataclasses.replace(
        stored, kinds=kinds, fields=assign_columns(kinds, stored.fields), folder=str(photos.resolve())
    )
    if changed != stored:
        catalogue.save(changed)
