"""``ipad-rerank rerank``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ipad_rerank.cli.options import FILE, FOLDER, VECTORS, vectors_column
from ipad_rerank.files.embeddings import read_embeddings
from ipad_rerank.files.retrievals import part_of, rank_groups
from ipad_rerank.rerankers.retrieval import ON_UNFAMILIAR
from ipad_rerank.rerankers.saving import load


@click.command()
@click.option("--query", type=VECTORS, required=True)
@click.option("--gallery", type=VECTORS, required=True)
@click.option("--reasoner", type=FOLDER, required=True, help="Folder written by fit.")
@click.option("--k", default=500, show_default=True, help="Results per query.")
@click.option("--output", type=FILE, required=True, help="An .npz to write.")
@click.option("--on-unfamiliar", type=click.Choice(ON_UNFAMILIAR), default="warn", show_default=True)
@vectors_column
def rerank(
    query: Path, gallery: Path, reasoner: Path, k: int, output: Path, on_unfamiliar: str, column: str | None
) -> None:
    """Search, re-rank and write the result.

    Of files with roles, the rows of role query search those of role gallery; with group_ids, each its own group's.
    What is written: "queries" (rows of the query file), "indices" (rows of the gallery file, best first),
    "scores" and, where the gallery has them, "ids". Where a group has less than k, the rest is -1, -inf and -1 (or "").
    """
    step = load(reasoner)
    query_rows, asked = part_of(read_embeddings(query, column), "query")
    gallery_rows, items = part_of(read_embeddings(gallery, column), "gallery")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder")
    _, better = rank_groups(asked, items, step, k, on_unfamiliar=on_unfamiliar)
    none = np.isneginf(better.scores)
    arrays = {
        "queries": query_rows,
        "indices": np.where(none, -1, gallery_rows[better.indices]),
        "scores": better.scores,
    }
    if items.ids is not None:
        words = items.ids.dtype.kind == "U"
        arrays["ids"] = np.where(none, "" if words else -1, items.ids[better.indices])
    part = output.with_name(output.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(output)
    click.echo(f"{len(better)} queries, {better.k} results each: {output}")
