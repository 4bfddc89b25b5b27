"""``ipad-rerank join``."""

from __future__ import annotations

from pathlib import Path

import click

from ipad_rerank.cli.options import FILE, FOLDER
from ipad_rerank.files.shards import join_shards


@click.command()
@click.argument("folder", type=FOLDER)
@click.argument("output", type=FILE)
def join(folder: Path, output: Path) -> None:
    """Copy the shards in FOLDER into one OUTPUT.npy, with labels, metadata and the like beside it.

    A .npy is read as a memory map: vectors that do not fit into memory can be searched. The other commands read FOLDER
    as well, and then hold all of it in memory.
    """
    rows, dim = join_shards(folder, output)
    click.echo(f"{output}: {rows} embeddings of {dim} numbers")
