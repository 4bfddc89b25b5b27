"""Commands that look at more than one run, or at networks without one."""

from __future__ import annotations

from pathlib import Path

import click

from ipad_train.cli_parts import overrides_argument, user_errors, whole_numbers
from ipad_train.config_files import ConfigError, load_config


@click.command()
@click.option("--config", "source", default="quickstart", show_default=True, metavar="FILE|PRESET")
@click.option(
    "--models", default="triplet,csn", show_default=True, help="Networks to train beside it, or `all` peers."
)
@click.option("--seeds", metavar="N,N,...", help="Once a seed, each in a folder of its own, and a table of the means.")
@click.option("--against", metavar="ROW", help="Compare all rows with this one: paired bootstrap over the queries.")
@click.option(
    "--budget",
    default="stages",
    show_default=True,
    metavar="stages|steps|steps-per-branch|Nmin",
    help="What is equal for all.",
)
@click.option("--split", default="test", show_default=True, help="validation or test")
@overrides_argument
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
    from ipad_train.comparison import ComparisonPlan, compare_seeds
    from ipad_train.comparison import compare as run
    from ipad_train.finite import DivergedError

    with user_errors(ConfigError, CheckpointError, DivergedError):
        config, names = load_config(source, overrides), [name for name in models.split(",") if name]
        plan = ComparisonPlan(names, split, against, Budget.parse(budget))
        if seeds is None:
            run(config, plan, click.echo)
        else:
            compare_seeds(config, whole_numbers("--seeds", seeds), plan, click.echo)


@click.command()
@click.option("--config", "source", default="tiny", show_default=True, metavar="FILE|PRESET")
@click.option(
    "--figures",
    default="2,3,4,5,6",
    show_default=True,
    metavar="N,N,...",
    help="Of the paper's section 4.3; and the tables `readings` (of Eq. 1 to 5) and `fusion` (of Eq. 15 and 21).",
)
@click.option("--seeds", default="0", show_default=True, metavar="N,N,...", help="Error bars are over these.")
@click.option("--split", default="test", show_default=True, help="validation or test")
@overrides_argument
def ablate(source: str, figures: str, seeds: str, split: str, overrides: tuple[str, ...]) -> None:
    """What each part of IPAD adds, and what readings of its equations come to: each variant a run.

    An interrupted ablation continues where it was.
    """
    from ipad_train.ablation import ablate as run
    from ipad_train.checkpoint import CheckpointError
    from ipad_train.finite import DivergedError

    with user_errors(ConfigError, CheckpointError, DivergedError, ImportError):
        names = [name.strip() for name in figures.split(",") if name.strip()]
        run(load_config(source, overrides), names, whole_numbers("--seeds", seeds), split, click.echo)


@click.command()
@click.option("--config", "source", default="photos", show_default=True, metavar="FILE|PRESET")
@click.option(
    "--trunk", required=True, metavar="NAME|MAPPING", help="A timm name such as vit_base_patch16_clip_224.openai."
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A .npy or .safetensors file."
)
@overrides_argument
def features(source: str, trunk: str, out: Path, overrides: tuple[str, ...]) -> None:
    """Embed every photo of a dataset once by any timm trunk with its pretrained weights, for `lens` and for any head.

    A MAPPING is YAML, as model.options.trunk: '{name: resnet18, weights: FILE, stage: 3}'.
    """
    import yaml

    from ipad_core import WeightsNotFoundError
    from ipad_train.commands import write_features

    with user_errors(ConfigError, WeightsNotFoundError, TypeError, yaml.YAMLError):
        given = yaml.safe_load(trunk)
        mapping = given if isinstance(given, dict) else {"name": trunk, "pretrained": True}
        write_features(load_config(source, overrides), mapping, out, click.echo)


@click.command()
@click.option("--config", "source", default="photos", show_default=True, metavar="FILE|PRESET")
@click.option("--split", default="test", show_default=True, help="validation or test")
@overrides_argument
def lens(source: str, split: str, overrides: tuple[str, ...]) -> None:
    """Fit a lens (a projection per attribute in closed form) on a frozen trunk or on vectors, and evaluate it."""
    from ipad_core import WeightsNotFoundError
    from ipad_train.commands import fit_lens

    with user_errors(ConfigError, WeightsNotFoundError):
        fit_lens(load_config(source, overrides), split, click.echo)


@click.command()
@click.argument("source", default="ipad_resnet50_vitb16", metavar="[NETWORK|RUN_DIR]")
@click.option("--attributes", default=8, show_default=True, help="Of a network by name.")
@click.option("--image-size", type=int, help="Side of the image, px; by default what the network takes.")
def analyze(source: str, attributes: int, image_size: int | None) -> None:
    """Parameters, multiply-adds and milliseconds of each branch, beside section 4.5 of the paper.

    NETWORK is a name of ipad-core (random weights), by default the paper's sizes; RUN_DIR a trained run.
    """
    from ipad_train.commands import analyze_network

    with user_errors(ConfigError):
        analyze_network(source, attributes, image_size, click.echo)
