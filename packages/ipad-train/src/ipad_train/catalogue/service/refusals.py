"""Which status an error has, and its sentence as JSON."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ipad_train.catalogue.errors import CatalogueError, EngineError, NotInCatalogueError, PhotoError


def add_refusals(app: FastAPI) -> None:
    """Answer the errors of a catalogue with 4xx, and those of its engine with 503."""

    def answer(status: int, text: str) -> JSONResponse:
        return JSONResponse({"error": text}, status_code=status)

    @app.exception_handler(NotInCatalogueError)
    def not_there(request: Request, error: NotInCatalogueError) -> JSONResponse:
        return answer(404, str(error))

    @app.exception_handler(PhotoError)
    def not_a_photo(request: Request, error: PhotoError) -> JSONResponse:
        return answer(410 if request.method == "GET" else 422, str(error))

    @app.exception_handler(CatalogueError)
    def not_possible(request: Request, error: CatalogueError) -> JSONResponse:
        return answer(422, str(error))

    @app.exception_handler(EngineError)
    def not_answering(request: Request, error: EngineError) -> JSONResponse:
        return answer(503, f"the catalogue's engine does not answer: {error}")

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(map(str, each['loc'][1:]))[:80]}: {each['msg'][:200]}" for each in error.errors()[:5]]
        return answer(422, "; ".join(found))
