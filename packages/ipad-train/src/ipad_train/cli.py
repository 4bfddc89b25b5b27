"""The command line: ``ipad-train``, or ``accelerate launch -m ipad_train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import click

from ipad_train.catalogue.cli import index, search, serve
from ipad_train.config_files import ConfigError, list_presets, load_config


class _TrainByDefault(click.Group):
    """Without a command's name, or with options first, the command is ``train``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if first not in self.commands and first not in ("-h", "--help", "--version"):
            if first and "=" not in first and not first.startswith("-"):
                near = get_close_matches(first, self.commands) or sorted(self.commands)
                ctx.fail(f"no command {first!r}; did you mean: {', '.join(near)}? An option reads KEY=VALUE.")
            args = ["train", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_TrainByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ipad-train")
def main() -> None:
    """Train, evaluate and look at attribute-aware embeddings.

    \b
    accelerate launch -m ipad_train                                   the tiny preset on the rendered dataset
    accelerate launch -m ipad_train --config fashionai data.dir=DIR   the paper's sizes on FashionAI
    accelerate launch -m ipad_train stage1.steps=500 seed=1           any option of the configuration as KEY=VALUE
    accelerate launch -m ipad_train evaluate runs/tiny                MAP on the test split
    """


_overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
_run_dir = click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))


@main.command()
@click.option("--config", "source", metavar="FILE|PRESET", help="YAML file, or one of: " + ", ".join(list_presets()))
@click.option("--resume", metavar="auto|CHECKPOINT", help="Continue the run of output_dir, or from a checkpoint.")
@_overrides
def train(source: str | None, resume: str | None, overrides: tuple[str, ...]) -> None:
    """Train the stages of a configuration (default: the preset `tiny`).

    OVERRIDES are KEY=VALUE pairs on any key of the configuration, e.g. stage1.steps=500 data.dir=photos.
    """
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.loop import DivergedError
    from ipad_train.training import Training

    with _user_errors(ConfigError, CheckpointError, DivergedError):
        Training(load_config(source, overrides), resume, click.echo).run()


@main.command()
@_run_dir
@click.option("--split", default="test", show_default=True, help="validation or test")
@_overrides
def evaluate(run_dir: Path, split: str, overrides: tuple[str, ...]) -> None:
    """MAP of a run's stages, per attribute and over all queries, and of what it delivers, re-ranked.

    Writes evaluation-SPLIT.json and .md into the run.
    """
    from ipad_train.commands import evaluate_run

    with _user_errors(ConfigError):
        evaluate_run(run_dir, split, overrides, click.echo)


@main.command()
@_run_dir
@click.option("--split", default="test", show_default=True, help="train, validation or test")
@click.option("--branch", default="fused", show_default=True, type=click.Choice(["fused", "spatial", "semantic"]))
@click.option("--stage", metavar="stageN", help="The best model of this stage, not that of the run.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .safetensors file.")
@_overrides
def embed(run_dir: Path, split: str, branch: str, stage: str | None, out: Path, overrides: tuple[str, ...]) -> None:
    """Write a run's embeddings of a split, for `ipad-rerank fit`, `rerank` and `compare`."""
    from ipad_train.commands import embed_run

    with _user_errors(ConfigError):
        embed_run(run_dir, split, out, branch, overrides, click.echo, stage)


@main.command()
@_run_dir
@click.option("--split", default="test", show_default=True, help="validation or test")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: report.html in RUN_DIR.")
@_overrides
def report(run_dir: Path, split: str, out: Path | None, overrides: tuple[str, ...]) -> None:
    """Write one HTML page on a run, or on a comparison of several: MAP, curves, attention, re-ranking, failures."""
    from ipad_train.report import write_report

    with _user_errors(ConfigError, ImportError):
        click.echo(write_report(run_dir, split=split, out=out, overrides=overrides, announce=click.echo))


@main.command()
@click.option("--config", "source", default="quickstart", show_default=True, metavar="FILE|PRESET")
@click.option("--methods", default="triplet,csn", show_default=True, help="Networks to train beside it.")
@click.option("--seeds", metavar="N,N,...", help="Once a seed, each in a folder of its own, and a table of the means.")
@click.option("--split", default="test", show_default=True, help="validation or test")
@_overrides
def compare(source: str, methods: str, seeds: str | None, split: str, overrides: tuple[str, ...]) -> None:
    """Train several methods from one start and print one table: what `nox -s quickstart` runs.

    An interrupted comparison continues where it was.
    """
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.compare import compare as run
    from ipad_train.compare import compare_seeds
    from ipad_train.loop import DivergedError

    with _user_errors(ConfigError, CheckpointError, DivergedError):
        config, names = load_config(source, overrides), [name for name in methods.split(",") if name]
        if seeds is None:
            run(config, names, split, click.echo)
        else:
            compare_seeds(config, _whole_numbers("--seeds", seeds), names, split, click.echo)


main.add_command(index)
main.add_command(search)
main.add_command(serve)


def _whole_numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be whole numbers with commas between them, got {text!r}") from None


@contextmanager
def _user_errors(*types: type[Exception]) -> Iterator[None]:
    """Turn errors that the user can mend into one line and exit code 1, without a traceback."""
    try:
        yield
    except (*types, OSError, ValueError) as error:  # OSError: a missing file, a full disk
        raise click.ClickException(str(error)) from error
