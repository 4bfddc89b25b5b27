"""Searches: what can be asked, photos that visitors give, and the search itself."""

from __future__ import annotations

from collections import Counter

from fastapi import FastAPI, Request

from ipad_train.catalogue.conditions import facet_condition, joined, read_filter
from ipad_train.catalogue.errors import CatalogueError, PhotoError
from ipad_train.catalogue.photo_table import NUMBER
from ipad_train.catalogue.rerankers import available_rerankers
from ipad_train.catalogue.searching import check_weights
from ipad_train.catalogue.service.filtering import filtered
from ipad_train.catalogue.service.guards import UPLOADS
from ipad_train.catalogue.service.schemas import (
    CatalogueInfo,
    ColumnInfo,
    Hit,
    SearchAnswer,
    SearchRequest,
    UploadAnswer,
)
from ipad_train.catalogue.service.state import State

_BINARY = {"type": "string", "format": "binary"}


def add_searches(app: FastAPI, state: State, max_upload: int) -> None:
    """Add ``/api/catalogue``, ``/api/uploads`` and ``/api/search``."""

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
            photos=len(shown),
            attributes=manifest.values,
            columns=columns,
            max_upload=max_upload,
            rerankers=available_rerankers(state.model.folder),
            max_pixels=state.max_pixels,
            updated=manifest.updated,
            has_attention=state.has_attention,
        )

    @app.post(
        UPLOADS,
        tags=["search"],
        openapi_extra={"requestBody": {"required": True, "content": {"image/*": {"schema": _BINARY}}}},
    )
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
        _, counts, mask = filtered(state, asked.where, asked.facets)
        reranker = None if asked.rerank is None else state.reranker(asked.rerank)
        if asked.upload is not None:
            vectors = state.uploaded(asked.upload).vectors
        else:
            vectors = state.searcher.vectors_of(asked.photo)
        columns = state.columns
        condition = joined([read_filter(asked.where, columns), facet_condition(asked.facets, columns)])
        among = int(mask.sum())  # counting them in the embedded engine takes longer than the search
        found = state.searcher.search(vectors, asked.weights, condition, asked.limit, reranker, asked.photo, among)
        hits = [
            Hit(
                id=each.id,
                file=each.file,
                rank=rank,
                rank_before=each.rank_before,
                score=round(each.score, 5),
                similarity=round(each.similarity, 5),
                values=each.values,
                columns=each.columns,
                boxes=each.boxes,
            )
            for rank, each in enumerate(found, 1)
        ]
        acted = any(abs(hit.score - hit.similarity) > 2e-5 for hit in hits)
        return SearchAnswer(hits=hits, reranked=acted, among=among, facets=counts)
