"""``ipad-train embed``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ipad_train.cli_parts import user_errors
from ipad_train.config_files import ConfigError


@click.command()
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="A folder for shards, or one .safetensors file."
)
@click.option("--split", metavar="NAME", help="train, validation or test  [default: test]")
@click.option("--photos", metavar="FOLDER|TABLE", type=click.Path(path_type=Path), help="Photos without labels.")
@click.option("--image-column", metavar="NAME", help="The table's column with the photos' names.")
@click.option("--branch", default="fused", show_default=True, type=click.Choice(["fused", "spatial", "semantic"]))
@click.option("--stage", metavar="stageN", help="The best model of this stage, not that of the run.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "float16"]))
@click.option("--shard-photos", default=2048, show_default=True, help="Photos of a shard.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def embed(run_dir: Path, out: Path, overrides: tuple[str, ...], **asked: Any) -> None:
    """Write a run's embeddings of a split, or of photos without labels, for `ipad-rerank` and any search engine.

    A folder is filled shard by shard by all processes, at the memory of one shard; started again after an interruption, it
    goes on. Of photos without labels every attribute is embedded; a table names them relative to its own folder. The command
    `ipad-rerank join FOLDER all.npy` makes one file of the shards.

    \b
    accelerate launch -m ipad_train embed runs/ours --out test
    accelerate launch -m ipad_train embed runs/ours --photos shop/ --out shop-embeddings data.on_error=skip
    """
    from ipad_train.commands import embed_run
    from ipad_train.embedding.options import EmbedOptions
    from ipad_train.embedding.run import embed_to_shards

    with user_errors(ConfigError):
        options = EmbedOptions(**asked)
        if out.suffix == ".safetensors" and options.photos is None:
            embed_run(run_dir, out, options, overrides, click.echo)
        elif out.suffix in (".safetensors", ".npy", ".npz", ".parquet"):
            joined = out.with_suffix(".npy").name
            raise ValueError(f"--out {out} must be a folder; `ipad-rerank join FOLDER {joined}` makes one file of it")
        else:
            with _lost_processes():
                embed_to_shards(run_dir, out, options, overrides, click.echo)


@contextmanager
def _lost_processes() -> Iterator[None]:
    """End with a sentence where another process is gone: a normal exit would wait for it."""
    from ipad_train.failures import lost_process

    try:
        yield
    except RuntimeError as error:
        if lost_process(error) is None:
            raise
        click.echo(
            "Error: another process is gone; what ended it stands in its own output. Finished shards stay, and the same "
            "command goes on with the rest",
            err=True,
        )
        os._exit(1)
