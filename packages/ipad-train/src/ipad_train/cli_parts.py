"""What commands share: arguments, lists of numbers, and errors that the user can mend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
run_argument = click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))


def whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be whole numbers with commas between them, got {text!r}") from None


@contextmanager
def user_errors(*types: type[Exception]) -> Iterator[None]:
    """Turn errors that the user can mend into one line and exit code 1, without a traceback."""
    from safetensors import SafetensorError  # not an OSError where the disk is full

    try:
        yield
    except (*types, OSError, ValueError) as error:  # OSError: a missing file, a full disk
        from ipad_train.failures import full_disk

        raise click.ClickException(full_disk(error) or str(error)) from error
    except (RuntimeError, SafetensorError) as error:
        from ipad_train.failures import explain, lost_process

        if (reason := explain(error)) is None:
            raise
        if lost_process(error) is None:
            raise click.ClickException(reason) from error
        click.echo(f"Error: {reason}", err=True)
        os._exit(1)  # a normal exit would wait for the lost process
