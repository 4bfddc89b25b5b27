"""Photos: pictures, where the model looks in them, lists, and what is known of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from ipad_train.catalogue.errors import CatalogueError, NotInCatalogueError
from ipad_train.catalogue.service.filtering import filtered
from ipad_train.catalogue.service.schemas import Photo, PhotoPage
from ipad_train.catalogue.service.state import THUMBNAIL, State

_SIZES = (96, THUMBNAIL, 900)


def add_photos(app: FastAPI, state: State) -> None:
    """Add ``/photos``, ``/api/attention`` and ``/api/photos``."""

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
        shown, counts, mask = filtered(state, where, facets)
        places = shown.by_name[mask[shown.by_name]].tolist()
        page = [Photo(**shown.describe(shown.ids[place])) for place in places[offset : offset + limit]]
        return PhotoPage(photos=page, among=len(places), facets=counts)

    @app.get("/api/photos/{photo}", tags=["photos"])
    def one(photo: str) -> Photo:
        """A photo's values and columns, and whether its file still is what was indexed."""
        return Photo(**state.describe(photo))
