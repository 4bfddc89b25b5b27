"""The command line: ``ipad-train``, or ``accelerate launch -m ipad_train``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import click

from ipad_train.catalogue.cli import index, search, serve
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


_overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
_run_dir = click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))


@main.command()
@click.option("--config", "source", metavar="FILE|PRESET", help="YAML file, or one of: " + ", ".join(list_presets()))
@click.option("--resume", metavar="auto|CHECKPOINT", help="Continue the run of output_dir, or from a checkpoint.")
@click.option("--print-config", is_flag=True, help="Print the configuration with all its keys as YAML, and end.")
@_overrides
def train(source: str | None, resume: str | None, print_config: bool, overrides: tuple[str, ...]) -> None:
    """Train the stages of a configuration (default: the preset `tiny`).

    OVERRIDES are KEY=VALUE pairs on any key of the configuration, e.g. stage1.steps=500 data.dir=photos.
    `ipad-train configs --keys` explains them all.
    """
    if print_config:
        with _user_errors(ConfigError):
            click.echo(config_text(with_absolute_paths(load_config(source, overrides))), nl=False)
        return
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.finite import DivergedError
    from ipad_train.training import Training

    with _user_errors(ConfigError, CheckpointError, DivergedError, ImportError):
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
@click.option(
    "--models", default="triplet,csn", show_default=True, help="Networks to train beside it, or `all` peers."
)
@click.option("--seeds", metavar="N,N,...", help="Once a seed, each in a folder of its own, and a table of the means.")
@click.option("--against", metavar="ROW", help="Compare all rows with this one: paired bootstrap over the queries.")
@click.option(
    "--budget", default="stages", show_default=True, metavar="stages|steps|Nmin", help="What is equal for all."
)
@click.option("--split", default="test", show_default=True, help="validation or test")
@_overrides
def compare(
    source: str,
    models: str,
    seeds: str | None,
    against: str | None,
    budget: str,
    split: str,
    overrides: tuple[str, ...],
) -> None:
    """Train several networks from one start and print one table: what `nox -s quickstart` runs.

    An interrupted comparison continues where it was, and a network more joins those that are there.
    """
    from ipad_train.budget import Budget
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.compare import compare as run
    from ipad_train.compare import compare_seeds
    from ipad_train.finite import DivergedError

    with _user_errors(ConfigError, CheckpointError, DivergedError):
        config, names = load_config(source, overrides), [name for name in models.split(",") if name]
        options = {"against": against, "budget": Budget.parse(budget)}
        if seeds is None:
            run(config, names, split, click.echo, **options)
        else:
            compare_seeds(config, _whole_numbers("--seeds", seeds), names, split, click.echo, **options)


@main.command()
@click.option("--config", "source", default="tiny", show_default=True, metavar="FILE|PRESET")
@click.option(
    "--figures", default="2,3,4,5,6", show_default=True, metavar="N,N,...",
    help="Of the paper's section 4.3; and the tables `readings` (of Eq. 1 to 5) and `fusion` (of Eq. 15 and 21).",
)  # fmt: skip
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...", help="Error bars are over these.")
@click.option("--split", default="test", show_default=True, help="validation or test")
@_overrides
def ablate(source: str, figures: str, seeds: str, split: str, overrides: tuple[str, ...]) -> None:
    """What each part of IPAD adds, and what readings of its equations come to: each variant a run.

    An interrupted ablation continues where it was.
    """
    from ipad_train.ablation import ablate as run
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.finite import DivergedError

    with _user_errors(ConfigError, CheckpointError, DivergedError, ImportError):
        names = [name.strip() for name in figures.split(",") if name.strip()]
        run(load_config(source, overrides), names, _whole_numbers("--seeds", seeds), split, click.echo)


@main.command()
@click.option("--config", "source", default="photos", show_default=True, metavar="FILE|PRESET")
@click.option(
    "--trunk", required=True, metavar="NAME|MAPPING", help="A timm name such as vit_base_patch16_clip_224.openai."
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .npy or .safetensors file."
)
@_overrides
def features(source: str, trunk: str, out: Path, overrides: tuple[str, ...]) -> None:
    """Embed every photo of a dataset once by any timm trunk with its pretrained weights, for `lens` and for any head.

    A MAPPING is YAML, as model.options.trunk: '{name: resnet18, weights: FILE, stage: 3}'.
    """
    import yaml

    from ipad_core import WeightsNotFoundError
    from ipad_train.commands import write_features

    with _user_errors(ConfigError, WeightsNotFoundError, TypeError, yaml.YAMLError):
        given = yaml.safe_load(trunk)
        mapping = given if isinstance(given, dict) else {"name": trunk, "pretrained": True}
        write_features(load_config(source, overrides), mapping, out, click.echo)


@main.command()
@click.option("--config", "source", default="photos", show_default=True, metavar="FILE|PRESET")
@click.option("--split", default="test", show_default=True, help="validation or test")
@_overrides
def lens(source: str, split: str, overrides: tuple[str, ...]) -> None:
    """Fit a lens (a projection per attribute in closed form) on a frozen trunk or on vectors, and evaluate it."""
    from ipad_core import WeightsNotFoundError
    from ipad_train.commands import fit_lens

    with _user_errors(ConfigError, WeightsNotFoundError):
        fit_lens(load_config(source, overrides), split, click.echo)


@main.command()
@click.argument("source", default="ipad_resnet50_vitb16", metavar="[NETWORK|RUN_DIR]")
@click.option("--attributes", default=8, show_default=True, help="Of a network by name.")
@click.option("--image-size", type=int, help="Side of the image, px; by default what the network takes.")
def analyze(source: str, attributes: int, image_size: int | None) -> None:
    """Parameters, multiply-adds and milliseconds of each branch, beside section 4.5 of the paper.

    NETWORK is a name of ipad-core (random weights), by default the paper's sizes; RUN_DIR a trained run.
    """
    from ipad_train.commands import analyze_network

    with _user_errors(ConfigError):
        analyze_network(source, attributes, image_size, click.echo)


@main.command()
@_run_dir
@click.option(
    "--format", "formats", default="onnx,torch", show_default=True, help="onnx, torch (torch.export) or both."
)
@click.option("--branch", default="both", show_default=True, type=click.Choice(["both", "spatial"]))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: export in RUN_DIR.")
def export(run_dir: Path, formats: str, branch: str, out: Path | None) -> None:
    """Write a run's model for other runtimes, with any number of images and entries, and check what was written."""
    from ipad_train.export import ExportMismatchError, export_run

    with _user_errors(ConfigError, ImportError, ExportMismatchError):
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

    with _user_errors():
        if keys:
            click.echo(describe_keys(name))
            return
        click.echo(describe_launch_configs() if name is None else launch_config(name), nl=name is None)


main.add_command(doctor)
main.add_command(embed)
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
    except RuntimeError as error:
        from ipad_train.failures import explain, lost_process

        if (reason := explain(error)) is None:
            raise
        if lost_process(error) is None:
            raise click.ClickException(reason) from error
        click.echo(f"Error: {reason}", err=True)
        os._exit(1)  # a normal exit would wait for the lost process
