"""What the commands read."""

from __future__ import annotations

from pathlib import Path

from ipad_rerank.files.embeddings import EmbeddingSet, read_embeddings


def read_labelled(file: Path, column: str | None, label_column: str | None) -> EmbeddingSet:
    """Embeddings with labels; ValueError without them."""
    data = read_embeddings(file, column, label_column)
    if data.labels is None:
        beside = f"; put them into {file.with_suffix('.labels.npy')}" if file.suffix == ".npy" else ""
        raise ValueError(f"{file} has no labels{beside}")
    return data
