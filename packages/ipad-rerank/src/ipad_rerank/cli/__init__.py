"""The ``ipad-rerank`` command: fit, rerank, evaluate, compare, join."""

from __future__ import annotations

import click

from ipad_rerank.cli.compare import compare
from ipad_rerank.cli.evaluate import evaluate
from ipad_rerank.cli.fit import fit
from ipad_rerank.cli.join import join
from ipad_rerank.cli.options import OneLineErrors
from ipad_rerank.cli.rerank import rerank


@click.group(cls=OneLineErrors, context_settings={"max_content_width": 110})
@click.version_option(package_name="ipad-rerank")
def main() -> None:
    """Re-rank search results of any embeddings.

    \b
    A worked example, on vectors with labels in two .npz files (arrays "embeddings" and "labels"):

    \b
      ipad-rerank compare train.npz                    does it help on my data? (splits the file; --output saves the best)
      ipad-rerank fit train.npz --output reasoner      train a re-ranker (--again 50: search and re-order twice)
      ipad-rerank evaluate test.npz --reasoner reasoner
      ipad-rerank rerank --query q.npy --gallery g.npy --reasoner reasoner --output best.npz

    \b
    Files: .safetensors, .npz or .parquet with embeddings and, where known, labels, group_ids, ids and roles
    (train, query, gallery, or 0, 1, 2). Labels, groups and ids are whole numbers or words. Beside a .npy of vectors,
    v.npy, the labels are read from v.labels.npy. Labels count within a group where there are group_ids.
    A folder of shards, as `ipad_train embed` writes, is read as one file; `join` makes one .npy of it.
    """


for command in (fit, rerank, evaluate, compare, join):
    main.add_command(command)
