"""``ipad-rerank fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ipad_rerank.cli.options import FOLDER, VECTORS, Read, device, objective_option, reads_labelled
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.feature_reasoning.refiner import VARIANTS
from ipad_rerank.rerankers.feature_reasoning.reranker import FeatureReasoning
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion


@click.command()
@click.argument("file", type=VECTORS)
@click.option("--output", type=FOLDER, required=True, help="Folder to write.")
@click.option("--n-r", type=int, help="Candidates looked at, and the query.  [default: 500]")
@click.option("--n-t", type=int, help="Rounds.  [default: 1]")
@click.option("--variant", type=click.Choice(VARIANTS), help='What moves; "full" is the default.')
@click.option("--sequences", help='Deal candidates out to so many, or "auto".  [default: 1, behind --expand auto]')
@objective_option
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
@reads_labelled
def fit(
    file: Path,
    output: Path,
    expand: int | None,
    alpha: float,
    again: int | None,
    init: Path | None,
    read: Read,
    **options: Any,
) -> None:
    """Train Feature Reasoning on FILE (its rows of role train, or all) and save it."""
    data = read(file)
    if data.roles is not None and bool((data.roles == 0).any()):
        data = data.role("train")
    options = {name: value for name, value in options.items() if value is not None}
    if options.get("sequences", "").isdecimal():
        options["sequences"] = int(options["sequences"])
    last = FeatureReasoning() if init is None else FeatureReasoning.from_pretrained(init)
    before = [] if expand is None else [AlphaQueryExpansion(k=expand, alpha=alpha)]
    after = None if again is None else AverageQueryExpansion(k=again)
    output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    reasoner = Chain(*before, last).fit(data.embeddings, data.labels, data.group_ids, **options).rerankers[-1]
    if after is not None and not reasoner.is_identity:
        fitted: Chain | FeatureReasoning = Chain(*before, reasoner, after, reasoner)
    else:
        fitted = Chain(*before, reasoner) if before else reasoner
    fitted.save_pretrained(output)
    click.echo(f"Saved to {output}")
