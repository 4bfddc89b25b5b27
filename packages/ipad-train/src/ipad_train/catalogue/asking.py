"""`ipad-train search`: one search from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ipad_data.transforms.decode import open_image
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.conditions import read_filter
from ipad_train.catalogue.errors import CatalogueError, NotInCatalogueError, PhotoError
from ipad_train.catalogue.manifest import Manifest
from ipad_train.catalogue.model import CatalogueModel, check_same_model
from ipad_train.catalogue.photo_files import photo_id, read_photo
from ipad_train.catalogue.reading import MAX_PIXELS
from ipad_train.catalogue.rerankers import find_reranker
from ipad_train.catalogue.results import to_json, to_table, write_contact_sheet
from ipad_train.catalogue.searching import Searcher
from ipad_train.catalogue.uploads import check_image


@dataclass(frozen=True)
class Question:
    """What is asked: see the options of ``ipad-train search``."""

    photo: str
    where: str
    attributes: Sequence[str]
    filter: str | None = None
    limit: int = 20
    rerank: str | None = None
    model: str | None = None
    json: bool = False
    sheet: Path | None = None


def read_weights(asked: Sequence[str]) -> dict[str, float]:
    """``collar_design`` and ``sleeve_length:0.5`` as name -> weight; 1 where none is given.

    Raises:
        CatalogueError: a weight that is no number.
    """
    weights = {}
    for text in asked:
        name, colon, weight = text.rpartition(":")
        try:
            weights[name if colon else text] = float(weight) if colon else 1.0
        except ValueError:
            raise CatalogueError(f"--attribute must be NAME or NAME:WEIGHT, got {text!r}") from None
    return weights


def answer(question: Question) -> str:
    """The text for the terminal; writes the contact sheet where one is asked for.

    Raises:
        CatalogueError: no such photo, attribute, filter, re-ranker or catalogue; weights that are all zero.
        EngineError: the engine does not answer.
    """
    with Catalogue(question.where, "searches") as catalogue:
        manifest, searcher = catalogue.manifest, Searcher(catalogue)
        weights = read_weights(question.attributes) or dict.fromkeys(manifest.attributes, 1.0)
        condition = read_filter(question.filter, catalogue.columns)
        source = question.model or manifest.source
        reranker = None
        if question.rerank is not None:
            folder = CatalogueModel.open(source).folder if question.rerank == "run" else Path(source)
            reranker = find_reranker(question.rerank, folder)
        vectors, known = _query(question.photo, source, question.where, searcher, manifest)
        found = searcher.search(vectors, weights, condition, question.limit, reranker, known)
        if question.sheet is not None:
            title = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
            write_contact_sheet(
                found,
                Path(manifest.folder),
                _picture(question.photo, known, manifest, searcher),
                title,
                question.sheet,
            )
    return to_json(found) if question.json else to_table(found, weights, reranker is not None)


def _query(
    photo: str, source: str, where: str, searcher: Searcher, manifest: Manifest
) -> tuple[np.ndarray, str | None]:
    """Vectors of the photo, and its id where it is in the catalogue: an id, a name in the photo folder, or any file."""
    for candidate in (photo, photo_id(photo)):
        try:
            return searcher.vectors_of(candidate), candidate
        except NotInCatalogueError:
            continue
    path = Path(photo)
    if not path.is_file():
        raise CatalogueError(f"PHOTO must be a file, or an id or name of the catalogue; {photo!r} is none of these")
    content = path.read_bytes()
    check_image(content, MAX_PIXELS, photo)
    model = CatalogueModel.open(source)
    check_same_model(model, manifest.made_by, where)
    return model.embed(model.decode(content, photo)[None]).vectors[0], None


def _picture(photo: str, known: str | None, manifest: Manifest, searcher: Searcher) -> Image.Image:
    if known is None:
        return open_image(photo, 400)
    name = searcher.catalogue.engine.rows([known], ["file"])[known]["file"]
    try:
        return open_image(read_photo(Path(manifest.folder), name), 400, name)
    except PhotoError:
        return Image.new("RGB", (200, 200), (230, 230, 230))
