"""The commands of a catalogue: ``index``, ``search`` and ``serve``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

_catalogue = click.option(
    "--catalogue",
    "where",
    default="catalogue",
    show_default=True,
    metavar="DIR|URL",
    help="A folder, or the address of a Milvus server: http://host:19530[/database].",
)


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, metavar="RUN|FOLDER|HUB", help="A run, a saved model, or owner/name on the hub."
)
@_catalogue
@click.option(
    "--table", type=click.Path(path_type=Path), help="CSV, JSON lines or Parquet; default: the one in PHOTOS."
)
@click.option("--no-table", is_flag=True, help="Take no table, also where there is one in PHOTOS.")
@click.option("--image-column", help="The table's column with the photos' names, relative to PHOTOS.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="An unreadable photo: stop, or leave it out and list it.",
)
@click.option("--verify", is_flag=True, help="Read every photo, also where size and time are those of the last run.")
@click.option("--rebuild", is_flag=True, help="Throw away what the catalogue holds, and embed all photos anew.")
@click.option("--moved", is_flag=True, help="The photo folder is another one than last time, with the same photos.")
@click.option(
    "--engine-index", default="FLAT", show_default=True, help="FLAT (exact), HNSW or IVF_FLAT; for a new catalogue."
)
@click.option("--batch-size", default=32, show_default=True, help="Photos that the model sees at a time.")
def index(photos: Path, model: str, where: str, on_error: str, engine_index: str, **options: Any) -> None:
    """Embed the photos of a folder for every attribute of a model, into a catalogue.

    Only photos that are new, changed or gone since the last time cost anything. An interrupted run continues where it was.
    """
    from ipad_train.catalogue.index_options import IndexOptions
    from ipad_train.catalogue.making import index_photos

    with _user_errors():
        settings = IndexOptions(index=engine_index, skip=on_error == "skip", **options)
        outcome = index_photos(photos, model, where, settings, click.echo)
        click.echo(outcome.text())


@click.command()
@click.argument("photo")
@_catalogue
@click.option(
    "--attribute", "attributes", multiple=True, metavar="NAME[:WEIGHT]", help="Repeat for several; default: all alike."
)
@click.option("--where", "filter", metavar="FILTER", help="Such as: price < 50 and brand == 'x'")
@click.option(
    "--rerank",
    is_flag=False,
    flag_value="run",
    metavar="[NAME|FOLDER]",
    help="Re-rank the best 200; alone: by the run's own.",
)
@click.option("--limit", default=20, show_default=True)
@click.option("--json", "json", is_flag=True, help="Print JSON.")
@click.option(
    "--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of the results (.jpg or .png)."
)
@click.option("--model", metavar="RUN|FOLDER|HUB", help="Where the catalogue's model lies now, if it was moved.")
def search(**options: Any) -> None:
    """Find photos like PHOTO: a file, or an id or name in the catalogue."""
    from ipad_train.catalogue.asking import Question, answer

    with _user_errors():
        click.echo(answer(Question(**options)))


@click.command()
@click.argument("where", metavar="DIR|URL", required=False)
@click.option(
    "--demo",
    is_flag=True,
    help="Render garments, index them and serve them; trains a small model where none is at hand.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address asks visitors for the token.")
@click.option("--port", default=8000, show_default=True)
@click.option("--token", envvar="IPAD_CATALOGUE_TOKEN", help="Default: a random one, printed at the start.")
@click.option("--model", metavar="RUN|FOLDER|HUB", help="Where the catalogue's model lies now, if it was moved.")
@click.option("--photos", type=click.Path(path_type=Path), help="Where the photo folder lies now, if it was moved.")
@click.option("--max-upload-mb", default=10.0, show_default=True, help="Largest upload, in millions of bytes.")
@click.option("--max-megapixels", default=40.0, show_default=True, help="Largest upload, in millions of pixels.")
def serve(where: str | None, demo: bool, **options: Any) -> None:
    """Serve a catalogue as a page and a JSON API."""
    from ipad_train.catalogue.demo import make_demo
    from ipad_train.catalogue.service.options import ServeOptions
    from ipad_train.catalogue.service.running import serve_catalogue

    with _user_errors():
        settings = ServeOptions(**options)
        if demo:
            where = make_demo(Path(where or "demo"), settings.model, click.echo)
            settings = replace(settings, model=None)
        elif where is None:
            raise click.UsageError("give a catalogue, a folder or an address, or --demo")
        serve_catalogue(where, settings, click.echo)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn errors that the user can mend into one line and exit code 1, without a traceback."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
