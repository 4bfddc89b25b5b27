"""The page itself: files of this package, nothing from other hosts."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response

from ipad_train.catalogue.errors import NotInCatalogueError

STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "api.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def add_pages(app: FastAPI) -> None:
    """Add ``/``, ``/api`` and what they load."""
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
