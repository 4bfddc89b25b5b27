"""Bodies and answers of the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MAX_NAME = 200


class SearchRequest(BaseModel):
    """One search: by a photo of the catalogue, or by an upload."""

    model_config = ConfigDict(extra="forbid", strict=True)

    photo: str | None = Field(None, max_length=64, description="Id of a photo of the catalogue.")
    upload: str | None = Field(None, max_length=64, description="Id of an upload; instead of photo.")
    weights: dict[str, float] = Field(max_length=1000, description="Attribute -> weight of 0 or more; not all 0.")
    where: str = Field("", max_length=4000, description="A filter, such as: price < 50 and brand == 'x'")
    facets: dict[str, list[str]] = Field(
        {}, max_length=1000, description="Attribute -> values, of which a photo shows one."
    )
    rerank: str | None = Field(None, max_length=MAX_NAME, description="Name of a re-ranker; none by default.")
    limit: int = Field(24, ge=1, le=200)


class PhotoValues(BaseModel):
    """The value of an attribute that the model sees, with its confidence in [0, 1]."""

    value: str
    confidence: float


class Hit(BaseModel):
    """A photo that was found; ``rank_before`` is its place by similarity alone."""

    id: str
    file: str
    rank: int
    rank_before: int
    score: float
    similarity: float
    values: dict[str, PhotoValues]
    columns: dict[str, Any]
    boxes: dict[str, list[float]]


class SearchAnswer(BaseModel):
    """Hits, best first; how many photos pass the filter and the facets; and how many show each value.

    ``reranked`` is false where the re-ranker kept the order, e.g. as the catalogue is unlike what it was fitted on.
    """

    hits: list[Hit]
    reranked: bool
    among: int
    facets: dict[str, dict[str, int]]


class UploadAnswer(BaseModel):
    """Id of an upload, for searches, and the values that the model sees."""

    upload: str
    values: dict[str, PhotoValues]


class Photo(BaseModel):
    """A photo of the catalogue."""

    id: str
    file: str
    values: dict[str, PhotoValues]
    columns: dict[str, Any]
    status: str | None = None


class PhotoPage(BaseModel):
    """A page of photos in the order of their names; how many pass the filter; and how many show each value."""

    photos: list[Photo]
    among: int
    facets: dict[str, dict[str, int]]


class ColumnInfo(BaseModel):
    """A column that filters know; lowest and highest number, or the most frequent texts."""

    kind: str
    low: float | None = None
    high: float | None = None
    texts: list[str] = []


class CatalogueInfo(BaseModel):
    """What can be asked of the catalogue."""

    photos: int
    attributes: dict[str, list[str]]
    columns: dict[str, ColumnInfo]
    rerankers: list[str]
    has_attention: bool
    max_upload: int
    max_pixels: int
    updated: str
