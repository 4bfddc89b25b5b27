"""``ipad-rerank compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ipad_rerank.cli.options import FOLDER, VECTORS, Read, objective_option, reads_labelled
from ipad_rerank.files.retrievals import split_queries, split_roles
from ipad_rerank.rerankers.saving import save
from ipad_rerank.selection.compare import compare as compare_sets


@click.command()
@click.argument("file", type=VECTORS)
@click.option("--gallery", type=VECTORS, help="With --train: FILE holds the queries, this the gallery.")
@click.option("--train", type=VECTORS, help="Vectors to tune and fit on; FILE is then only searched.")
@objective_option
@click.option("--n-r", default=500, show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=FOLDER, help="Save the recommended re-ranker here, for rerank and evaluate.")
@click.option("--json", "as_json", is_flag=True)
@reads_labelled
def compare(
    file: Path,
    gallery: Path | None,
    train: Path | None,
    output: Path | None,
    as_json: bool,
    read: Read,
    **options: Any,
) -> None:
    """One table of what each re-ranker brings on FILE, and which to use.

    FILE's rows are used by role (train, query, gallery); without roles half of it trains and tunes, the other half is
    searched, one query to four gallery rows.
    """
    if gallery is not None and train is None:
        raise ValueError("--gallery needs --train: FILE, --gallery and --train are three files")
    data = read(file)
    if train is None:
        parts = split_roles(data, options["seed"])
    else:
        searched = (data, read(gallery)) if gallery else split_queries(data, options["seed"])
        parts = (read(train), *searched)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    result = compare_sets(*parts, **options, verbose=True)
    click.echo(json.dumps(result.to_dict()) if as_json else str(result))
    if output is not None and result.reranker is not None:
        save(result.reranker, output)
        click.echo(f"Saved: {output}", err=True)
