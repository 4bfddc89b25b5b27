"""The ``ipad-data`` command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ipad_data.assignments import parse_assignment
from ipad_data.dataset_trees import EXPECTED
from ipad_data.doctor import examine
from ipad_data.loading import list_datasets, load
from ipad_data.prepare import UNREADABLE, prepare
from ipad_data.render.export import write_rendered
from ipad_data.split_export import EXPORTED, export_splits

_FOLDER = click.Path(file_okay=False, path_type=Path)


def _clean_errors(function: Callable[..., None]) -> Callable[..., None]:
    """Show errors about files, options and extras as one message instead of a traceback; the exit status is 1."""

    @functools.wraps(function)
    def command(**options: Any) -> None:
        try:
            function(**options)
        except (ValueError, OSError, ImportError) as error:
            raise click.ClickException(str(error)) from error

    return command


def _load_options(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``KEY=VALUE`` options of ``load``."""
    try:
        return dict(map(parse_assignment, values))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Examine, prepare, split and render fashion datasets."""


@main.command()
@click.argument("folder", type=_FOLDER)
@click.option("--dataset", type=click.Choice(sorted(EXPECTED)), help="Which dataset it is; recognised by default.")
@click.option("--read-images/--no-read-images", default=True, show_default=True, help="Decode every image.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that read images; all cores by default.")
@_clean_errors
def doctor(folder: Path, dataset: str | None, read_images: bool, workers: int | None) -> None:
    """Say which dataset FOLDER holds, what is there, what is missing and what to do next.

    The exit status is 0 where some protocol can be read with all of its images, else 1.
    """
    diagnoses = examine(folder, dataset, read_images, workers, progress=True)
    click.echo("\n\n".join(str(diagnosis) for diagnosis in diagnoses))
    if not all(diagnosis.healthy for diagnosis in diagnoses):
        raise SystemExit(1)


@main.command("prepare")
@click.argument("name", type=click.Choice(list_datasets()))
@click.argument("folder", type=_FOLDER, required=False)
@click.option("--out", type=_FOLDER, required=True, help="Folder to make.")
@click.option("--size", default=512, show_default=True, help="Shorter side of the images, at most.")
@click.option("--quality", default=90, show_default=True, help="JPEG quality.")
@click.option("--shard-mb", default=256.0, show_default=True, help="Size of a shard, about.")
@click.option("--unreadable", type=click.Choice(UNREADABLE), default="raise", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; all cores by default.")
@click.option(
    "-o", "--option", "options", multiple=True, callback=_load_options, help="KEY=VALUE for load; repeatable."
)
@_clean_errors
def prepare_command(
    name: str,
    folder: Path | None,
    out: Path,
    size: int,
    quality: int,
    shard_mb: float,
    unreadable: str,
    workers: int | None,
    options: dict[str, Any],
) -> None:
    """Shrink the images of dataset NAME in FOLDER once and write them with their labels as Parquet shards.

    Example: ipad-data prepare fashionai data/FashionAI --out prepared --size 448 -o missing_images=skip
    """
    dataset = load(name, folder, **options)
    report = prepare(dataset, out, size, quality, unreadable, int(shard_mb * 2**20), workers, True, name, options)
    click.echo(str(report))
    for problem in report.unreadable[:20]:
        click.echo(f"  {problem}", err=True)


@main.command()
@click.argument("name", type=click.Choice(EXPORTED))
@click.argument("folder", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="Folder for the split files.")
@click.option(
    "-o", "--option", "options", multiple=True, callback=_load_options, help="KEY=VALUE for load; repeatable."
)
@_clean_errors
def splits(name: str, folder: Path, out: Path, options: dict[str, Any]) -> None:
    """Write the splits of dataset NAME in FOLDER as files, so that others can repeat a run.

    FashionAI, DARN and DeepFashion, whose images are not needed, get split files. Photos of your own get a splits.csv; with
    it, photos that are added later move none: load("table", FOLDER, splits=...).

    Example: ipad-data splits fashionai data/FashionAI --out splits -o seed=1
    """
    protocol = {} if name == "table" else {"protocol": "random"}
    written = export_splits(name, folder, out, **(protocol | options))
    click.echo("\n".join(str(path) for path in written))


@main.command()
@click.option("--out", type=_FOLDER, required=True, help="Folder to make.")
@click.option("--num-images", default=6250, show_default=True, help="Images of all splits together.")
@click.option("--num-train", type=int, help="Images of a split, instead of its share.")
@click.option("--num-validation", type=int)
@click.option("--num-test", type=int)
@click.option("--size", default=128, show_default=True, help="Side of the images in pixels.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--difficulty", default="standard", show_default=True, help="easy, standard, hard or a number in [0, 1]."
)
@_clean_errors
def render(out: Path, num_images: int, size: int, seed: int, difficulty: str, **split_sizes: int | None) -> None:
    """Write the rendered dataset as image files with split files, in the layout of FashionAI's."""
    write_rendered(out, num_images, size, seed, _number_or_name(difficulty), **split_sizes)
    click.echo(str(out))


def _number_or_name(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
