"""`ipad-train index`: open or make a catalogue, check that it is the model's and the folder's, and bring it up to date."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.engine import INDEXES
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import assign_columns
from ipad_train.catalogue.indexing import Indexer, Outcome
from ipad_train.catalogue.manifest import Manifest, read_centers, write_centers
from ipad_train.catalogue.model import CatalogueModel, check_same_model
from ipad_train.catalogue.photo_files import find_photos
from ipad_train.catalogue.photo_table import NO_TABLE, PhotoTable, find_table, read_photo_table
from ipad_train.catalogue.value_centers import ValueCenters, centers_of_run


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """How a catalogue is made: see the options of ``ipad-train index``."""

    table: Path | None = None
    no_table: bool = False
    image_column: str | None = None
    index: str = "FLAT"
    batch_size: int = 32
    skip: bool = False
    verify: bool = False
    rebuild: bool = False
    moved: bool = False
    progress: bool = True


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
    with Catalogue(where, "indexes", make=True) as catalogue:
        if catalogue.stored is not None and not options.rebuild:
            check_same_model(model, catalogue.stored.made_by, where)
            _check_folder(catalogue.stored, photos, where, options.moved)
        table = _table(
            photos, options, {} if options.rebuild else dict(catalogue.stored.kinds if catalogue.stored else {})
        )
        if catalogue.stored is None or options.rebuild:
            centers = _start(catalogue, model, photos, options.index, announce)
        else:
            centers = read_centers(catalogue.engine, catalogue.stored)
        _keep_up(catalogue, photos, table)
        announce(
            f"{len(files)} photos, {len(model.attributes)} attributes, {len(table.kinds)} columns of a table; "
            f"catalogue {where}"
        )
        indexer = Indexer(
            catalogue, model, centers, photos, table, batch_size=options.batch_size, skip=options.skip,
            verify=options.verify, progress=options.progress,
        )  # fmt: skip
        outcome = indexer.run(files)
    outcome.unreadable[:0] = left_out
    return outcome


def _start(
    catalogue: Catalogue, model: CatalogueModel, photos: Path, index: str, announce: Callable[[str], None]
) -> ValueCenters:
    """Make the collections; the manifest comes last, so that an interruption leaves nothing half made."""
    size = model.detail_size
    dim = model.embed(np.zeros((1, size, size, 3), dtype=np.uint8)).vectors.shape[2]
    if model.run is not None:
        announce("learning what the values look like, from the run's labelled images")
        centers = centers_of_run(model)
    else:
        announce(
            f"{model.source} is no run, so there are no labelled images to name the values of photos by; "
            "search works without"
        )
        centers = ValueCenters.unknown(model, dim)
    catalogue.engine.create(len(model.attributes), dim, index)
    write_centers(catalogue.engine, centers)
    values = {name: list(words) for name, words in model.values.items()}
    temperatures = [float(each) for each in centers.temperatures]
    catalogue.save(
        Manifest(
            model.source, model.fingerprint, values, dim, size, str(photos.resolve()), temperatures=temperatures,
            index=index,
        )
    )  # fmt: skip
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
