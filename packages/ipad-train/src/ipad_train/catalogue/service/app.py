"""The application: page, photos, and the JSON API (described at ``/openapi.json``, shown at ``/api``)."""

from __future__ import annotations

from fastapi import FastAPI

from ipad_train.catalogue.service.guards import Guards
from ipad_train.catalogue.service.pages import add_pages
from ipad_train.catalogue.service.photos import add_photos
from ipad_train.catalogue.service.refusals import add_refusals
from ipad_train.catalogue.service.searches import add_searches
from ipad_train.catalogue.service.state import State


def make_app(state: State, token: str | None, max_upload: int) -> FastAPI:
    """The ASGI application.

    Args:
        token: What visitors have to show; None where only this machine can reach the service.
        max_upload: Bytes.
    """
    app = FastAPI(title="Catalogue", version="1", docs_url=None, redoc_url=None)
    app.add_middleware(Guards, token=token, max_upload=max_upload)
    add_refusals(app)
    add_pages(app)
    add_photos(app, state)
    add_searches(app, state, max_upload)
    return app
