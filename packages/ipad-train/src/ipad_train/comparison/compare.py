"""A comparison from its plan to its table, with one seed or several; what is complete is not done again."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipad_train.comparison.files import write_comparison
from ipad_train.comparison.numbers import Precisions, add_differences, differences, mean_results
from ipad_train.comparison.plan import ComparisonPlan
from ipad_train.comparison.rows import evaluate_networks
from ipad_train.comparison.training import train_networks
from ipad_train.config import RunConfig
from ipad_train.distributed import on_main_process
from ipad_train.networks import network_shape
from ipad_train.run_context import RunContext
from ipad_train.run_folder import COMPARISON
from ipad_train.trained_runs import check_settings, device_name, sharing_maps

_PRECISIONS = "precisions.npz"


def compare_seeds(
    config: RunConfig, seeds: Sequence[int], plan: ComparisonPlan, announce: Callable[[str], None] = print
) -> dict[str, Any]:
    """:func:`compare` once a seed, in ``seed-N`` below ``config.output_dir``, and a table of the means.

    Seeds that are complete are not trained again; a network more is trained beside what is there.

    Returns:
        See :func:`ipad_train.comparison.numbers.mean_results`; written as :func:`write_comparison` does.

    Raises:
        ValueError: no seed, or one twice; and as :func:`compare`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {list(seeds)}")
    comparison = _Comparison(config, plan, announce)
    results, precisions = [], []
    for seed in seeds:
        folder = comparison.folder / f"seed-{seed}"
        if (saved := comparison.saved(folder)) is not None:
            announce(f"{folder}: compared already")
            comparison.finish(folder, saved, _read_precisions(folder), quiet=True)
        else:
            announce(f"=== seed {seed} ===")
            comparison.run(folder, seed)
        results.append(_read_results(folder))
        precisions.append(_read_precisions(folder))
    means = mean_results(results, seeds)
    means["differences"] = [difference._asdict() for difference in differences(results, precisions)]
    add_differences(means, precisions, comparison.against(means))
    comparison.write(comparison.folder, means)
    return means


def compare(config: RunConfig, plan: ComparisonPlan, announce: Callable[[str], None] = print) -> dict[str, Any]:
    """Train the configured network and each of its peers beside it, evaluate all on a split, and write one table.

    All networks start from the same trunk, a pretrained one or that of the one stage 0, and train on the same batches for
    as long as the budget gives them. The configured network then goes through re-ranking. A pretrained trunk has two rows
    of its own: as it is, and as a lens. Runs that are complete already are not trained again, so an interrupted comparison
    continues where it was. The dataset is opened once for all of them.

    Args:
        config: The run; its ``output_dir`` holds one folder a network.
        plan: What is compared.
        announce: Receives lines for the user.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`, with the rows of all networks (each with its ``costs``, what the
        ``paper`` reports, and the ``difference`` to ``against``) and the ``differences`` that matter.

    Raises:
        ValueError: unknown split, network or row; the folder holds a comparison of other settings.
    """
    comparison = _Comparison(config, plan, announce)
    return comparison.run(comparison.folder, config.seed)


class _Comparison:
    """A comparison's folder, and the data and the plan that all its seeds share."""

    def __init__(self, config: RunConfig, plan: ComparisonPlan, announce: Callable[[str], None]) -> None:
        context = RunContext.open(config, announce)
        context.data.split(plan.split)
        self.plan = plan.beside(network_shape(config, context.data).architecture)
        self.context, self.folder = dataclasses.replace(context, config=sharing_maps(config)), context.folder
        self.accelerator = context.accelerator
        on_main_process(self.accelerator, lambda: check_settings(self.folder, config, budget=str(plan.budget)))

    def saved(self, folder: Path) -> dict[str, Any] | None:
        """Results in a folder; None where there are none, or those of other networks or another split."""
        if not (folder / COMPARISON).is_file():
            return None
        results = _read_results(folder)
        same = results["split"] == self.plan.split and results.get("models") == self.plan.models
        return results if same else None

    def run(self, folder: Path, seed: int) -> dict[str, Any]:
        """Train and evaluate all networks with one seed."""
        started = time.monotonic()
        networks = train_networks(self.context, self.plan, folder, seed)
        results = evaluate_networks(self.context, networks, self.plan.split)
        precisions = {row["name"]: row.pop("precisions") for row in results["rows"][1:]}
        results["seconds"] = round(time.monotonic() - started)
        results |= {"seed": seed, "device": device_name(self.accelerator.device), "models": self.plan.models}
        results |= {"budget": str(self.plan.budget), "dataset": networks.config.data.name}
        if self.accelerator.is_main_process:
            np.savez(folder / _PRECISIONS, **precisions)
        return self.finish(folder, results, precisions)

    def finish(
        self, folder: Path, results: dict[str, Any], precisions: Precisions, quiet: bool = False
    ) -> dict[str, Any]:
        """Compare the rows, and write the table."""
        results["differences"] = [difference._asdict() for difference in differences([results], [precisions])]
        add_differences(results, [precisions], self.against(results))
        self.write(folder, results, quiet)
        return results

    def write(self, folder: Path, results: dict[str, Any], quiet: bool = False) -> None:
        """The table in all its forms."""
        if self.accelerator.is_main_process:
            table = write_comparison(folder, results)
            if not quiet:
                self.context.announce(table)
        self.accelerator.wait_for_everyone()

    def against(self, results: dict[str, Any]) -> str | None:
        """The row to compare with, where there is one: what a run delivers decides which rows it has."""
        names, wanted = [row["name"] for row in results["rows"]], self.plan.against
        if wanted is None or wanted in names:
            return wanted
        self.context.announce(f"no row {wanted!r} to compare with; there are: {', '.join(names)}")
        return None


def _read_results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / COMPARISON).read_text(encoding="utf-8"))


def _read_precisions(folder: Path) -> Precisions:
    with np.load(folder / _PRECISIONS) as file:
        return dict(file)
