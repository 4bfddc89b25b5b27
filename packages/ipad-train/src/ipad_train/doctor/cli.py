"""``ipad-train doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from ipad_train.config_files import ConfigError, load_config
from ipad_train.doctor.finding import BROKEN, as_text


@click.command()
@click.option("--config", "source", metavar="FILE|PRESET", help="The run that it is about; default: the preset tiny.")
@click.option(
    "--launcher",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration of accelerate launch; default: Accelerate's own.",
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def doctor(source: str | None, launcher: Path | None, overrides: tuple[str, ...]) -> None:
    """Whether this machine can train: what was found, whether it is fine, and the command that mends it.

    Looks at packages, devices, Accelerate's configuration, ports, threads, shared memory and disk; data are looked at by
    `ipad-data doctor`. The exit code is 1 where something stops a run.
    """
    from ipad_train.doctor.examine import examine

    try:
        config = load_config(source, overrides)
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from error
    findings = examine(config, launcher)
    click.echo(as_text(findings))
    if any(finding.state == BROKEN for finding in findings):
        raise SystemExit(1)
