"""The command line: ``ipad-train``, or ``accelerate launch -m ipad_train``."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click

from ipad_train.catalogue.cli import index, search, serve
from ipad_train.cli_parts import overrides_argument, run_argument, user_errors
from ipad_train.cli_studies import ablate, analyze, compare, features, lens
from ipad_train.config_files import ConfigError, config_text, list_presets, load_config, with_absolute_paths
from ipad_train.doctor.cli import doctor
from ipad_train.embedding.cli import embed


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


@main.command()
@click.option("--config", "source", metavar="FILE|PRESET", help="YAML file, or one of: " + ", ".join(list_presets()))
@click.option("--resume", metavar="auto|CHECKPOINT", help="Continue the run of output_dir, or from a checkpoint.")
@click.option("--print-config", is_flag=True, help="Print the configuration with all its keys as YAML, and end.")
@overrides_argument
def train(source: str | None, resume: str | None, print_config: bool, overrides: tuple[str, ...]) -> None:
    """Train the stages of a configuration (default: the preset `tiny`).

    OVERRIDES are KEY=VALUE pairs on any key of the configuration, e.g. stage1.steps=500 data.dir=photos.
    `ipad-train configs --keys` explains them all.
    """
    if print_config:
        with user_errors(ConfigError):
            click.echo(config_text(with_absolute_paths(load_config(source, overrides))), nl=False)
        return
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.finite import DivergedError
    from ipad_train.training import Training

    with user_errors(ConfigError, CheckpointError, DivergedError, ImportError):
        Training(load_config(source, overrides), resume, click.echo).run()


@main.command()
@run_argument
@click.option("--split", default="test", show_default=True, help="validation or test")
@overrides_argument
def evaluate(run_dir: Path, split: str, overrides: tuple[str, ...]) -> None:
    """MAP of a run's stages, per attribute and over all queries, and of what it delivers, re-ranked.

    Writes evaluation-SPLIT.json and .md into the run.
    """
    from ipad_train.commands import evaluate_run

    with user_errors(ConfigError):
        evaluate_run(run_dir, split, overrides, click.echo)


@main.command()
@run_argument
@click.option("--split", default="test", show_default=True, help="validation or test")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: report.html in RUN_DIR.")
@overrides_argument
def report(run_dir: Path, split: str, out: Path | None, overrides: tuple[str, ...]) -> None:
    """Write one HTML page on a run, or on a comparison of several: MAP, curves, attention, re-ranking, failures."""
    from ipad_train.report import write_report

    with user_errors(ConfigError, ImportError):
        click.echo(write_report(run_dir, split=split, out=out, overrides=overrides, announce=click.echo))


@main.command()
@run_argument
@click.option(
    "--format", "formats", default="onnx,torch", show_default=True, help="onnx, torch (torch.export) or both."
)
@click.option("--branch", default="both", show_default=True, type=click.Choice(["both", "spatial"]))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: export in RUN_DIR.")
def export(run_dir: Path, formats: str, branch: str, out: Path | None) -> None:
    """Write a run's model for other runtimes, with any number of images and entries, and check what was written."""
    from ipad_train.export import ExportMismatchError, export_run

    with user_errors(ConfigError, ImportError, ExportMismatchError):
        export_run(run_dir, out, formats.split(","), click.echo, branch)


@main.command()
@click.argument("name", required=False)
@click.option(
    "--keys", is_flag=True, help="Explain every key of a run's configuration, or those that begin with NAME."
)
def configs(name: str | None, keys: bool) -> None:
    """List the configurations for `accelerate launch`, or print the one named NAME.

    \b
    ipad-train configs gpus-8 > gpus-8.yaml
    accelerate launch --config_file gpus-8.yaml -m ipad_train --config fashionai data.dir=DIR
    ipad-train configs --keys loop          what KEY=VALUE may set, here the keys of the training loop
    """
    from ipad_train.config_keys import describe_keys
    from ipad_train.launch_configs import describe_launch_configs, launch_config

    with user_errors():
        if keys:
            click.echo(describe_keys(name))
            return
        click.echo(describe_launch_configs() if name is None else launch_config(name), nl=name is None)


for command in (compare, ablate, features, lens, analyze, doctor, embed, index, search, serve):
    main.add_command(command)
