"""The ``ipad-rerank`` command: fit, rerank, evaluate, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from ipad_rerank._options import FILE, FOLDER, OneLineErrors, device, labelled_columns, vectors_column
from ipad_rerank._retrievals import part_of, rank_groups, split_queries
from ipad_rerank.compare import compare, split_roles
from ipad_rerank.embeddings import EmbeddingSet, read_embeddings
from ipad_rerank.metrics import evaluate as evaluate_ranking
from ipad_rerank.metrics import paired_bootstrap
from ipad_rerank.rerankers._reorder import ON_UNFAMILIAR
from ipad_rerank.rerankers._sequence_refiner import VARIANTS
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion

EXAMPLE = """\b
A worked example, on vectors with labels in two .npz files (arrays "embeddings" and "labels"):

\b
  ipad-rerank compare train.npz                    does it help on my data? (splits the file; --output saves the best)
  ipad-rerank fit train.npz --output reasoner      train a re-ranker (--expand 50: behind query expansion)
  ipad-rerank evaluate test.npz --reasoner reasoner
  ipad-rerank rerank --query q.npy --gallery g.npy --reasoner reasoner --output best.npz

\b
Files: .safetensors, .npz or .parquet with embeddings and, where known, labels, group_ids, ids and roles
(train, query, gallery, or 0, 1, 2). Labels, groups and ids are whole numbers or words. Beside a .npy of vectors,
v.npy, the labels are read from v.labels.npy. Labels count within a group where there are group_ids.
"""


@click.group(
    cls=OneLineErrors,
    help=f"Re-rank search results of any embeddings.\n\n{EXAMPLE}",
    context_settings={"max_content_width": 110},
)
@click.version_option(package_name="ipad-rerank")
def main() -> None:
    pass


@main.command()
@click.argument("file", type=FILE)
@click.option("--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--n-r", type=int, help="Candidates looked at, and the query.  [default: 500]")
@click.option("--n-t", type=int, help="Rounds.  [default: 1]")
@click.option("--variant", type=click.Choice(VARIANTS), help='What moves; "full" is the default.')
@click.option("--sequences", help='Deal candidates out to so many, or "auto".  [default: 1]')
@click.option("--steps", default=1000, show_default=True)
@click.option("--expand", type=int, help="Put alpha query expansion with this k before it.")
@click.option("--alpha", default=3.0, show_default=True, help="Of that expansion; 0 weighs its k alike.")
@click.option(
    "--again", type=int, help="Move the query to the best so many that it found, search again, reason again."
)
@click.option("--init", type=FOLDER, help="A fitted reasoner to start from; it keeps its own n-r, n-t and variant.")
@click.option("--device", callback=device, help="Where to train, such as cuda.  [default: cpu]")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep-without-gain", is_flag=True, help="Keep it even if held-out MAP does not rise.")
@labelled_columns
def fit(
    file: Path,
    output: Path,
    expand: int | None,
    alpha: float,
    again: int | None,
    init: Path | None,
    column: str | None,
    label_column: str | None,
    **options: Any,
) -> None:
    """Train Feature Reasoning on FILE (its rows of role train, or all) and save it."""
    data = _read(file, column, label_column)
    if data.roles is not None and bool((data.roles == 0).any()):
        data = data.role("train")
    options = {name: value for name, value in options.items() if value is not None}
    if options.get("sequences", "auto") != "auto":
        options["sequences"] = _whole_number(options["sequences"])
    last = FeatureReasoning() if init is None else FeatureReasoning.from_pretrained(init)
    before = [] if expand is None else [AlphaQueryExpansion(k=expand, alpha=alpha)]
    after = None if again is None else AverageQueryExpansion(k=again)
    output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    reasoner = Chain(*before, last).fit(data.embeddings, data.labels, data.group_ids, **options).rerankers[-1]
    if after is not None and not reasoner.is_identity:
        fitted: Any = Chain(*before, reasoner, after, reasoner)
    else:
        fitted = Chain(*before, reasoner) if before else reasoner
    fitted.save_pretrained(output)
    click.echo(f"Saved to {output}")


@main.command()
@click.option("--query", type=FILE, required=True)
@click.option("--gallery", type=FILE, required=True)
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
    step = _load(reasoner)
    own, asked = part_of(read_embeddings(query, column), "query")
    met, items = part_of(read_embeddings(gallery, column), "gallery")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder")
    _, better = rank_groups(asked, items, step, k, on_unfamiliar=on_unfamiliar)
    none = np.isneginf(better.scores)
    arrays = {"queries": own, "indices": np.where(none, -1, met[better.indices]), "scores": better.scores}
    if items.ids is not None:
        words = items.ids.dtype.kind == "U"
        arrays["ids"] = np.where(none, "" if words else -1, items.ids[better.indices])
    part = output.with_name(output.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(output)
    click.echo(f"{len(better)} queries, {better.k} results each: {output}")


@main.command()
@click.argument("file", type=FILE)
@click.option("--gallery", type=FILE, help="Search this file; otherwise FILE's own roles, or a split of it.")
@click.option("--reasoner", type=FOLDER, help="Compare this with no re-ranking.")
@click.option("--k", type=int, help="Look at the first k results only.  [default: the whole gallery]")
@click.option("--seed", default=0, show_default=True, help="Of the split, where FILE has no roles.")
@click.option("--json", "as_json", is_flag=True)
@labelled_columns
def evaluate(
    file: Path,
    gallery: Path | None,
    reasoner: Path | None,
    k: int | None,
    seed: int,
    as_json: bool,
    column: str | None,
    label_column: str | None,
) -> None:
    """MAP and more of FILE's queries, without and with a reasoner."""
    step = _load(reasoner) if reasoner else None
    data = _read(file, column, label_column)
    query, items = (data, _read(gallery, column, label_column)) if gallery else split_queries(data, seed)
    before, after = rank_groups(query, items, step, k)
    labels = (query.labels, items.labels, query.group_ids, items.group_ids)
    results = {"none": evaluate_ranking(before, *labels)}
    if after is not None:
        results["reasoner"] = evaluate_ranking(after, *labels)
    if as_json:
        click.echo(json.dumps({name: result.to_dict() for name, result in results.items()}))
        return
    for name, result in results.items():
        click.echo(f"{name:10} {result}")
    if after is not None:
        gain = paired_bootstrap(*(result.average_precision for result in results.values()))
        click.echo(f"gain {100 * gain.difference:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]")


@main.command(name="compare")
@click.argument("file", type=FILE)
@click.option("--gallery", type=FILE, help="With --train: FILE holds the queries, this the gallery.")
@click.option("--train", type=FILE, help="Vectors to tune and fit on; FILE is then only searched.")
@click.option("--n-r", default=500, show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=FOLDER, help="Save the recommended re-ranker here, for rerank and evaluate.")
@click.option("--json", "as_json", is_flag=True)
@labelled_columns
def compare_command(
    file: Path,
    gallery: Path | None,
    train: Path | None,
    output: Path | None,
    as_json: bool,
    column: str | None,
    label_column: str | None,
    **options: Any,
) -> None:
    """One table of what each re-ranker brings on FILE, and which to use.

    FILE's rows are used by role (train, query, gallery); without roles half of it trains and tunes, the other half is
    searched, one query to four gallery rows.
    """
    if gallery is not None and train is None:
        raise ValueError("--gallery needs --train: FILE, --gallery and --train are three files")
    data = _read(file, column, label_column)
    if train is None:
        parts = split_roles(data, options["seed"])
    else:
        searched = (data, _read(gallery, column, label_column)) if gallery else split_queries(data, options["seed"])
        parts = (_read(train, column, label_column), *searched)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    result = compare(*parts, **options)
    click.echo(json.dumps(result.to_dict()) if as_json else str(result))
    if output is not None and result.reranker is not None:
        best = result.reranker
        (best if isinstance(best, Chain) else Chain(best)).save_pretrained(output)
        click.echo(f"Saved: {output}", err=True)


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f'--sequences must be a whole number or "auto", got {text!r}')
    return int(text)


def _load(folder: Path) -> Chain:
    """What fit wrote, as a chain in any case."""
    if (folder / "chain.json").is_file():
        return Chain.from_pretrained(folder)
    return Chain(FeatureReasoning.from_pretrained(folder))


def _read(file: Path, column: str | None, label_column: str | None) -> EmbeddingSet:
    data = read_embeddings(file, column, label_column)
    if data.labels is None:
        beside = f"; put them into {file.with_suffix('.labels.npy')}" if file.suffix == ".npy" else ""
        raise ValueError(f"{file} has no labels{beside}")
    return data
