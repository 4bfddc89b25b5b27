"""The ``ipad-rerank`` command: fit, rerank, evaluate, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from ipad_rerank.compare import Comparison, compare, split_roles
from ipad_rerank.embeddings import EmbeddingSet, read_embeddings
from ipad_rerank.metrics import evaluate as evaluate_ranking
from ipad_rerank.metrics import paired_bootstrap
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.feature_reasoning import ON_UNFAMILIAR, VARIANTS, FeatureReasoning
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

EXAMPLE = """\b
A worked example, on vectors with labels in two .npz files (arrays "embeddings" and "labels"):

\b
  ipad-rerank compare train.npz                    does it help on my data? (splits the file)
  ipad-rerank fit train.npz --output reasoner      train a re-ranker
  ipad-rerank evaluate test.npz --reasoner reasoner
  ipad-rerank rerank --query q.npy --gallery g.npy --reasoner reasoner --output best.npz

\b
Files: .safetensors, .npz, .parquet with embeddings and optional labels, group_ids, ids, roles (0 train, 1 query,
2 gallery), or .npy with vectors only. Labels count within a group where there are group_ids.
"""


class _Group(click.Group):
    """Errors in the user's files and options are one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, help=f"Re-rank search results of any embeddings.\n\n{EXAMPLE}")
@click.version_option(package_name="ipad-rerank")
def main() -> None:
    pass


@main.command()
@click.argument("file", type=FILE)
@click.option("--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--n-r", default=500, show_default=True, help="Candidates looked at, and the query.")
@click.option("--n-t", default=1, show_default=True, help="Rounds.")
@click.option("--variant", type=click.Choice(VARIANTS), default="full", show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--expand", type=int, help="Put alpha query expansion with this k before it.")
@click.option("--init", type=FOLDER, help="A fitted reasoner to start from; it keeps its own n-r, n-t and variant.")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep-without-gain", is_flag=True, help="Keep it even if held-out MAP does not rise.")
def fit(
    file: Path,
    output: Path,
    n_r: int,
    n_t: int,
    variant: str,
    steps: int,
    expand: int | None,
    init: Path | None,
    seed: int,
    keep_without_gain: bool,
) -> None:
    """Train Feature Reasoning on FILE (its rows of role train, or all) and save it."""
    data = read_embeddings(file)
    if data.roles is not None and bool((data.roles == 0).any()):
        data = data.role("train")
    _need_labels(data, file)
    options: dict[str, Any] = {"steps": steps, "seed": seed, "keep_without_gain": keep_without_gain}
    if init is not None:
        last = FeatureReasoning.from_pretrained(init)
        options["init"] = last
    else:
        last = FeatureReasoning(n_r=n_r, n_t=n_t, variant=variant)
        options |= {"n_r": n_r, "n_t": n_t, "variant": variant}
    if expand is None:
        fitted: Any = FeatureReasoning.fit(data.embeddings, data.labels, data.group_ids, **options)
    else:
        chain = Chain(AlphaQueryExpansion(k=expand), last)
        options = {key: value for key, value in options.items() if key not in ("n_r", "n_t", "variant", "init")}
        fitted = chain.fit(data.embeddings, data.labels, data.group_ids, **options)
    fitted.save_pretrained(output)
    click.echo(f"Saved to {output}")


@main.command()
@click.option("--query", type=FILE, required=True)
@click.option("--gallery", type=FILE, required=True)
@click.option("--reasoner", type=FOLDER, required=True, help="Folder written by fit.")
@click.option("--k", default=500, show_default=True, help="Results per query.")
@click.option("--output", type=FILE, required=True, help="An .npz to write: indices, scores, and ids if known.")
@click.option("--on-unfamiliar", type=click.Choice(ON_UNFAMILIAR), default="warn", show_default=True)
def rerank(query: Path, gallery: Path, reasoner: Path, k: int, output: Path, on_unfamiliar: str) -> None:
    """Search, re-rank and write the result."""
    asked, items = read_embeddings(query), read_embeddings(gallery)
    first = rank(asked.embeddings, items.embeddings, k=k)
    step = _load(reasoner)
    options = {"on_unfamiliar": on_unfamiliar} if isinstance(step, FeatureReasoning) else {}
    better = step.rerank(asked.embeddings, items.embeddings, first, **options)
    arrays = {"indices": better.indices, "scores": better.scores}
    if items.ids is not None:
        arrays["ids"] = items.ids[better.indices]
    with open(output, "wb") as file:
        np.savez(file, **arrays)
    click.echo(f"{len(better)} queries, {better.k} results each: {output}")


@main.command()
@click.argument("file", type=FILE)
@click.option("--gallery", type=FILE, help="Search this file; otherwise FILE's own roles, or a split of it.")
@click.option("--reasoner", type=FOLDER, help="Compare this with no re-ranking.")
@click.option("--seed", default=0, show_default=True, help="Of the split, where FILE has no roles.")
@click.option("--json", "as_json", is_flag=True)
def evaluate(file: Path, gallery: Path | None, reasoner: Path | None, seed: int, as_json: bool) -> None:
    """MAP and more of FILE's queries, without and with a reasoner."""
    query, items = _queries_and_gallery(file, gallery, seed)
    before, after = _rank_groups(query, items, _load(reasoner) if reasoner else None)
    labels = (query.labels, items.labels, query.group_ids, items.group_ids)
    results = {"none": evaluate_ranking(before, *labels)}
    if after is not None:
        results["reasoner"] = evaluate_ranking(after, *labels)
    if as_json:
        click.echo(json.dumps({name: result.to_dict() for name, result in results.items()}))
        return
    for name, result in results.items():
        at = ", ".join(f"P@{k} {100 * value:.2f}" for k, value in result.precision.items())
        click.echo(f"{name:10} MAP {100 * result.map:.2f}  {at}")
    if after is not None:
        first, second = results["none"].average_precision, results["reasoner"].average_precision
        gain = paired_bootstrap(first, second)
        click.echo(f"gain {100 * gain.difference:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]")


@main.command(name="compare")
@click.argument("file", type=FILE)
@click.option("--gallery", type=FILE, help="With --train: FILE holds the queries, this the gallery.")
@click.option("--train", type=FILE, help="Vectors to tune and fit on.")
@click.option("--n-r", default=500, show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def compare_command(
    file: Path, gallery: Path | None, train: Path | None, n_r: int, steps: int, seed: int, as_json: bool
) -> None:
    """One table of what each re-ranker brings on FILE, and which to use.

    FILE's rows are used by role (train, query, gallery); without roles half of it trains and tunes, the other half is
    searched, one query to four gallery rows.
    """
    if (gallery is None) != (train is None):
        raise ValueError("--gallery and --train go together: FILE, --gallery and --train are three files")
    data = read_embeddings(file)
    if gallery is not None and train is not None:
        parts = (read_embeddings(train), data, read_embeddings(gallery))
    else:
        parts = split_roles(data, seed)
    for part, name in zip(parts, (train or file, file, gallery or file), strict=True):
        _need_labels(part, name)
    result: Comparison = compare(*parts, n_r=n_r, steps=steps, seed=seed)
    click.echo(json.dumps(result.to_dict()) if as_json else str(result))


def _load(folder: Path) -> Any:
    return (Chain if (folder / "chain.json").is_file() else FeatureReasoning).from_pretrained(folder)


def _need_labels(data: EmbeddingSet, file: Path) -> None:
    if data.labels is None:
        raise ValueError(f"{file} has no labels")


def _queries_and_gallery(file: Path, gallery: Path | None, seed: int) -> tuple[EmbeddingSet, EmbeddingSet]:
    data = read_embeddings(file)
    _need_labels(data, file)
    if gallery is not None:
        items = read_embeddings(gallery)
        _need_labels(items, gallery)
        return data, items
    if data.roles is not None:
        return data.role("query"), data.role("gallery")
    order = np.random.default_rng(seed).permutation(len(data))
    cut = max(1, len(data) // 5)
    return data.select(order[:cut]), data.select(order[cut:])


def _rank_groups(query: EmbeddingSet, items: EmbeddingSet, step: Any) -> tuple[Ranking, Ranking | None]:
    """Rankings of each query over its group's gallery rows, and the rows of other groups after them."""
    if (query.group_ids is None) != (items.group_ids is None):
        raise ValueError("queries and gallery must both have group_ids, or neither")
    if query.group_ids is None:
        before = rank(query.embeddings, items.embeddings)
        return before, step.rerank(query.embeddings, items.embeddings, before) if step else None
    shape = (len(query), len(items))
    tables = [(np.empty(shape, np.int64), np.empty(shape, np.float32)) for _ in range(2 if step else 1)]
    for group in np.unique(query.group_ids):
        own = np.flatnonzero(query.group_ids == group)
        met = np.flatnonzero(items.group_ids == group)
        others = np.flatnonzero(items.group_ids != group)
        rankings: list[Ranking | None] = [None] * len(tables)
        if len(met):
            rankings[0] = rank(query.embeddings[own], items.embeddings[met])
            if step:
                rankings[1] = step.rerank(query.embeddings[own], items.embeddings[met], rankings[0])
        for (indices, scores), ranking in zip(tables, rankings, strict=True):
            indices[own, len(met) :], scores[own, len(met) :] = others, -np.inf
            if ranking is not None:
                indices[own, : len(met)], scores[own, : len(met)] = met[ranking.indices], ranking.scores
    made = [Ranking(*table) for table in tables]
    return made[0], made[1] if step else None
