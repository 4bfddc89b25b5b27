"""``ipad-rerank evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ipad_rerank.cli.options import FOLDER, VECTORS, Read, reads_labelled
from ipad_rerank.files.retrievals import rank_groups, split_queries
from ipad_rerank.metrics import evaluate as evaluate_ranking
from ipad_rerank.metrics import paired_bootstrap
from ipad_rerank.rerankers.saving import load


@click.command()
@click.argument("file", type=VECTORS)
@click.option("--gallery", type=VECTORS, help="Search this file; otherwise FILE's own roles, or a split of it.")
@click.option("--reasoner", type=FOLDER, help="Compare this with no re-ranking.")
@click.option("--k", type=int, help="Look at the first k results only.  [default: the whole gallery]")
@click.option("--seed", default=0, show_default=True, help="Of the split, where FILE has no roles.")
@click.option("--json", "as_json", is_flag=True)
@reads_labelled
def evaluate(
    file: Path,
    gallery: Path | None,
    reasoner: Path | None,
    k: int | None,
    seed: int,
    as_json: bool,
    read: Read,
) -> None:
    """MAP and more of FILE's queries, without and with a reasoner."""
    step = load(reasoner) if reasoner else None
    data = read(file)
    query, items = (data, read(gallery)) if gallery else split_queries(data, seed)
    before, after = rank_groups(query, items, step, k)
    labels = (query.labels, items.labels, query.group_ids, items.group_ids)
    results = {"none": evaluate_ranking(before, *labels)}
    if after is not None:
        results["reasoner"] = evaluate_ranking(after, *labels)
    gain = paired_bootstrap(*(result.average_precision for result in results.values())) if after is not None else None
    if as_json:
        content = {name: result.to_dict() for name, result in results.items()}
        click.echo(json.dumps(content | ({"gain": asdict(gain)} if gain else {})))
        return
    for name, result in results.items():
        click.echo(f"{name:10} {result}")
    if gain is not None:
        click.echo(f"gain {100 * gain.difference:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]")
