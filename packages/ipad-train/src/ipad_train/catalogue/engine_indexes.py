"""The engine's indexes: what each is built with, and how hard a search tries."""

from __future__ import annotations

from typing import Any

INDEXES: dict[str, dict[str, Any]] = {
    "FLAT": {},
    "HNSW": {"M": 32, "efConstruction": 256},
    "IVF_FLAT": {"nlist": 1024},
}


def search_effort(index: str, limit: int) -> dict[str, int]:
    """Parameters of a search for ``limit`` photos; FLAT reads everything and has none."""
    return {"HNSW": {"ef": max(2048, 4 * limit)}, "IVF_FLAT": {"nprobe": 512}}.get(index, {})
