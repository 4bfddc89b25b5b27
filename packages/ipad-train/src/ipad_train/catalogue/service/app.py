"""The application: page, photos, and the JSON API (described at ``/openapi.json``, shown at ``/api``)."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from ipad_train.catalogue.columns import find_attribute
from ipad_train.catalogue.conditions import Condition, facet_condition, joined, read_filter
from ipad_train.catalogue.errors import CatalogueError, NotInCatalogueError, PhotoError
from ipad_train.catalogue.photo_table import NUMBER
from ipad_train.catalogue.rerankers import available_rerankers
from ipad_train.catalogue.searching import check_weights
from ipad_train.catalogue.service.guards import UPLOADS, Guards
from ipad_train.catalogue.service.refusals import add_refusals
from ipad_train.catalogue.service.schemas import (
    CatalogueInfo,
    ColumnInfo,
    Hit,
    Photo,
    PhotoPage,
    SearchAnswer,
    SearchRequest,
    UploadAnswer,
)  # fmt: skip
from ipad_train.catalogue.service.state import THUMBNAIL, State

STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "api.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_SIZES = (96, THUMBNAIL, 900)
_BINARY = {"type": "string", "format": "binary"}


def make_app(state: State, token: str | None, max_upload: int) -> FastAPI:
    """The ASGI application.

    Args:
        token: What visitors have to show; None where only this machine can reach the service.
        max_upload: Bytes.
    """
    app = FastAPI(title="Catalogue", version="1", docs_url=None, redoc_url=None)
    app.add_middleware(Guards, token=token, max_upload=max_upload)
    add_refusals(app)
    _add_pages(app)
    _add_photos(app, state)
    _add_searches(app, state, max_upload)
    return app


def _add_pages(app: FastAPI) -> None:
    folder = files("ipad_train.catalogue") / "static"

    def served(name: str, kind: str) -> Response:
        return Response((folder / name).read_bytes(), media_type=kind)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return served("page.html", "text/html")

    @app.get("/api", include_in_schema=False)
    def api() -> Response:
        return served("api.html", "text/html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in STATIC:
            raise NotInCatalogueError(f"no file {name[:40]!r}")
        return served(name, STATIC[name])


def _add_photos(app: FastAPI, state: State) -> None:
    @app.get("/photos/{photo}", tags=["photos"], response_class=Response)
    def picture(photo: str, request: Request, size: int = THUMBNAIL) -> Response:
        """A JPEG of a photo as it is now; `size` of the shorter side: 96, 320 or 900 px."""
        if size not in _SIZES:
            raise CatalogueError(f"size must be one of {', '.join(map(str, _SIZES))}, got {size}")
        content, found = state.picture(photo, size)
        headers = {"ETag": f'"{found}-{size}"', "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/jpeg", headers=headers)

    @app.get("/api/attention", tags=["photos"], response_class=Response)
    def attention(attribute: str, photo: str | None = None, upload: str | None = None) -> Response:
        """Where the model looks in a photo or upload for an attribute: a PNG to be laid over it."""
        if (photo is None) == (upload is None):
            raise CatalogueError("give one of photo and upload")
        heat = state.attention(photo, upload, attribute)
        if heat is None:
            raise NotInCatalogueError("this model has no attention")
        return Response(heat, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})

    @app.get("/api/photos", tags=["photos"])
    def photos(
        where: Annotated[str, Query(max_length=4000)] = "",
        facet: Annotated[list[str], Query(max_length=200)] = [],  # noqa: B006  (FastAPI copies it)
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 24,
    ) -> PhotoPage:
        """Photos in the order of their names; `facet` is ATTRIBUTE:VALUE and may come several times."""
        facets: dict[str, list[str]] = {}
        for each in facet:
            name, _, value = each.partition(":")
            facets.setdefault(name, []).append(value)
        shown, counts, mask = _filtered(state, where, facets)
        places = sorted(np.flatnonzero(mask).tolist(), key=lambda place: shown.files[place])
        page = [Photo(**shown.describe(shown.ids[place])) for place in places[offset : offset + limit]]
        return PhotoPage(photos=page, among=len(places), facets=counts)

    @app.get("/api/photos/{photo}", tags=["photos"])
    def one(photo: str) -> Photo:
        """A photo's values and columns, and whether its file still is what was indexed."""
        return Photo(**state.describe(photo))


def _add_searches(app: FastAPI, state: State, max_upload: int) -> None:
    @app.get("/api/catalogue", tags=["search"])
    def catalogue() -> CatalogueInfo:
        """What can be asked: attributes with their values, columns, re-rankers, and limits."""
        shown, manifest = state.snapshot, state.catalogue.manifest
        columns = {}
        for name in manifest.kinds:
            cells, known = shown.column(state.columns.by_name[name]) if name not in manifest.values else (None, None)
            if cells is None:
                continue
            if manifest.kinds[name] == NUMBER:
                low, high = (float(cells[known].min()), float(cells[known].max())) if known.any() else (None, None)
                columns[name] = ColumnInfo(kind=NUMBER, low=low, high=high)
            else:
                texts = [text for text, _ in Counter(cells[known].tolist()).most_common(30)]
                columns[name] = ColumnInfo(kind="text", texts=texts)
        return CatalogueInfo(
            photos=len(shown), attributes=manifest.values, columns=columns, max_upload=max_upload,
            rerankers=available_rerankers(state.model.folder), max_pixels=state.max_pixels, updated=manifest.updated,
            has_attention=state.has_attention,
        )  # fmt: skip

    @app.post(
        UPLOADS, tags=["search"],
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": {"schema": _BINARY}}}},
    )  # fmt: skip
    async def upload(request: Request) -> UploadAnswer:
        """Give a photo of your own, as the body of the request; its id then goes into searches."""
        from starlette.concurrency import run_in_threadpool

        content = await request.body()
        if not content:
            raise PhotoError("the body is empty; send the bytes of an image file")
        key, made = await run_in_threadpool(state.upload, content)
        return UploadAnswer(upload=key, values=made.values)

    @app.post("/api/search", tags=["search"])
    def search(asked: SearchRequest) -> SearchAnswer:
        """The photos most like a photo or upload, by the attributes that have a weight."""
        if (asked.photo is None) == (asked.upload is None):
            raise CatalogueError("give one of photo and upload")
        check_weights(asked.weights, state.catalogue.manifest.attributes)
        _, counts, mask = _filtered(state, asked.where, asked.facets)
        reranker = None if asked.rerank is None else state.reranker(asked.rerank)
        if asked.upload is not None:
            vectors = state.uploaded(asked.upload).vectors
        else:
            vectors = state.searcher.vectors_of(asked.photo)
        found = state.searcher.search(
            vectors, asked.weights, _condition(state, asked.where, asked.facets), asked.limit, reranker, asked.photo
        )
        hits = [
            Hit(
                id=each.id, file=each.file, rank=rank, rank_before=each.rank_before, score=round(each.score, 5),
                similarity=round(each.similarity, 5), values=each.values, columns=each.columns, boxes=each.boxes,
            )
            for rank, each in enumerate(found, 1)
        ]  # fmt: skip
        acted = any(abs(hit.score - hit.similarity) > 2e-5 for hit in hits)
        return SearchAnswer(hits=hits, reranked=acted, among=int(mask.sum()), facets=counts)


def _condition(state: State, where: str, facets: dict[str, list[str]]) -> Condition | None:
    columns = state.columns
    return joined([read_filter(where, columns), facet_condition(facets, columns)])


def _filtered(
    state: State, where: str, facets: dict[str, list[str]]
) -> tuple[Any, dict[str, dict[str, int]], np.ndarray]:
    """The snapshot; how many photos show each value, among those that pass the filter and the other attributes' facets;
    and the mask of those that pass everything."""
    for name in facets:
        find_attribute(name, state.catalogue.manifest.attributes)
    shown, columns = state.snapshot, state.columns
    base = shown.mask(read_filter(where, columns))
    each = {name: shown.mask(facet_condition({name: values}, columns)) for name, values in facets.items() if values}
    counts = {}
    for number, name in enumerate(state.catalogue.manifest.attributes):
        others = [mask for other, mask in each.items() if other != name]
        counts[name] = shown.counts(np.logical_and.reduce([base, *others]), number)
    return shown, counts, np.logical_and.reduce([base, *each.values()])
