"""What the commands share: types of options, files with labels, and how errors and warnings are told."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click
import torch

from ipad_rerank.files.embeddings import EmbeddingSet, read_embeddings
from ipad_rerank.rerankers.feature_reasoning import NoGainWarning, UnfamiliarDensityWarning

FILE = click.Path(path_type=Path, dir_okay=False)
VECTORS = click.Path(path_type=Path)
"""A file of embeddings, or a folder of shards."""

FOLDER = click.Path(path_type=Path, file_okay=False)

vectors_column = click.option("--column", metavar="NAME", help="Array or column of the vectors.")
_labels_column = click.option("--label-column", metavar="NAME", help="Array or column of the labels.")

objective_option = click.option(
    "--objective", default="map", show_default=True, help="What counts: map, precision@10, ndcg@10, hit_rate@1, ..."
)


Read: TypeAlias = Callable[[Path], EmbeddingSet]
"""Reads embeddings with labels."""


def read_labelled(file: Path, column: str | None, label_column: str | None) -> EmbeddingSet:
    """Embeddings with labels; ValueError without them."""
    data = read_embeddings(file, column, label_column)
    if data.labels is None:
        beside = f"; put them into {file.with_suffix('.labels.npy')}" if file.suffix == ".npy" else ""
        raise ValueError(f"{file} has no labels{beside}")
    return data


def reads_labelled(command: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--column`` and ``--label-column``, and hands the command a ``read`` that knows them."""

    @functools.wraps(command)
    def with_read(column: str | None, label_column: str | None, **options: Any) -> None:
        command(read=functools.partial(read_labelled, column=column, label_column=label_column), **options)

    return vectors_column(_labels_column(with_read))


def device(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Callback of an option that names a torch device: is it there?"""
    if value is not None:
        try:
            torch.empty(0, device=value)
        except (AssertionError, RuntimeError) as error:
            raise click.BadParameter(
                f"{value!r} is not at hand: {str(error).splitlines()[0]}", param=option
            ) from error
    return value


class OneLineErrors(click.Group):
    """Errors in the user's files and options are one line, not a traceback; so are warnings."""

    def invoke(self, ctx: click.Context) -> object:
        with warnings.catch_warnings():
            for category in (NoGainWarning, UnfamiliarDensityWarning):
                warnings.simplefilter("always", category)
            warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)
            try:
                return super().invoke(ctx)
            except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
                raise click.ClickException(str(error)) from error
