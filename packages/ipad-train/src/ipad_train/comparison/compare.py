"""Several methods on one dataset, from one start, in one table: what the quickstart runs."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipad_core import AttributeEmbedder
from ipad_train.budget import Budget, with_steps
from ipad_train.chance import stuck_attributes
from ipad_train.comparison import Precisions, add_differences, differences, mean_results
from ipad_train.comparison_files import write_comparison
from ipad_train.config import RunConfig
from ipad_train.config_files import load_run_config
from ipad_train.costs import branch_costs
from ipad_train.evaluate import evaluate_split
from ipad_train.frozen import frozen_rows
from ipad_train.networks import network_options, network_shape
from ipad_train.paper import paper_row
from ipad_train.peers import FIRST_BRANCHES, PEERS, check_peers, name_rows, peer_config, row_name
from ipad_train.reranking import load_reasoner
from ipad_train.run_context import RunContext
from ipad_train.run_folder import COMPARISON, RunFolder
from ipad_train.run_results import evaluate_stages
from ipad_train.step_speed import measured_once
from ipad_train.trained_runs import check_settings, device_name, sharing_maps, train_once, training_speed

_RESULTS, _PRECISIONS, _SECONDS = COMPARISON, "precisions.npz", "step-seconds.json"


def compare_seeds(
    config: RunConfig,
    seeds: Sequence[int],
    models: Sequence[str],
    split: str = "test",
    announce: Callable[[str], None] = print,
    *,
    against: str | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """:func:`compare` once a seed, in ``seed-N`` below ``config.output_dir``, and a table of the means.

    Seeds that are complete are not trained again; a network more is trained beside what is there.

    Returns:
        See :func:`ipad_train.comparison.mean_results`; written as :func:`write_comparison` does.

    Raises:
        ValueError: no seed, or one twice; and as :func:`compare`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {list(seeds)}")
    comparison = _Comparison(config, models, split, announce, against, budget)
    results, precisions = [], []
    for seed in seeds:
        folder = comparison.out / f"seed-{seed}"
        done = folder / _RESULTS
        if done.is_file() and comparison.is_result(saved := json.loads(done.read_text(encoding="utf-8"))):
            announce(f"{folder}: compared already")
            comparison.finish(folder, saved, _read_precisions(folder), quiet=True)
        else:
            announce(f"=== seed {seed} ===")
            comparison.run(folder, seed)
        results.append(json.loads(done.read_text(encoding="utf-8")))
        precisions.append(_read_precisions(folder))
    means = mean_results(results, seeds)
    means["differences"] = [difference._asdict() for difference in differences(results, precisions)]
    add_differences(means, precisions, comparison._known(means))
    comparison.write(comparison.out, means)
    return means


def compare(
    config: RunConfig,
    models: Sequence[str],
    split: str = "test",
    announce: Callable[[str], None] = print,
    *,
    against: str | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Train the configured network and each of its peers beside it, evaluate all on a split, and write one table.

    All networks start from the same trunk, a pretrained one or that of the one stage 0, and train on the same batches for
    as long as the budget gives them. The configured network then goes through re-ranking. A pretrained trunk has two rows
    of its own: as it is, and as a lens. Runs that are complete already are not trained again, so an interrupted comparison
    continues where it was.

    Args:
        config: The run; its ``output_dir`` holds one folder a network.
        models: Networks of :data:`ipad_train.peers.PEERS`, or ``all``.
        split: Split to evaluate on.
        announce: Receives lines for the user.
        against: Row that all others are compared with by paired bootstrap; its name, or that of its network.
        budget: What is equal for all; by default the stages as configured.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`, with the rows of all networks (each with its ``costs``, what the
        ``paper`` reports, and the ``difference`` to ``against``) and the ``differences`` that matter.

    Raises:
        ValueError: unknown network or row; the folder holds a comparison of other settings.
    """
    comparison = _Comparison(config, models, split, announce, against, budget)
    return comparison.run(comparison.out, config.seed)


class _Comparison:
    """What all seeds share: data, networks, budget, and the rows that need no training."""

    def __init__(
        self,
        config: RunConfig,
        models: Sequence[str],
        split: str,
        announce: Callable[[str], None],
        against: str | None,
        budget: Budget | None,
    ) -> None:
        self.out, self.split, self.announce = Path(config.output_dir), split, announce
        self.config, self.budget = sharing_maps(config), budget or Budget()
        self.context = RunContext.open(config, announce)
        self.accelerator, self.data = self.context.accelerator, self.context.data
        self.data.split(split)
        shape = network_shape(config, self.data)
        self.options, self.architecture = shape.options, shape.architecture
        self.models = check_peers(models, self.architecture)
        self.against = row_name(against, self.models, self.architecture)
        if self.accelerator.is_main_process:
            check_settings(self.out, config, budget=str(self.budget))
        self.accelerator.wait_for_everyone()

    def is_result(self, saved: dict[str, Any]) -> bool:
        """Whether results are those of these networks on this split."""
        return saved["split"] == self.split and saved.get("models") == self.models

    def run(self, folder: Path, seed: int) -> dict[str, Any]:
        """Train and evaluate all networks with one seed."""
        started = time.monotonic()
        config = dataclasses.replace(self.config, seed=seed)
        speeds = self._speeds() if self.budget.kind == "minutes" else {}
        main_config = dataclasses.replace(config, output_dir=str(folder / config.model.name))
        if speeds:
            main_config = self._within_minutes(main_config, speeds[config.model.name])
        main = train_once(main_config, config.model.name, self.announce)
        config = load_run_config(main)  # with what its start decided: weights, lengths
        both = config.stage1.steps + config.stage2.steps
        stage0 = RunFolder(main).stage("stage0")
        trunk = config.model.trunk_weights or (str(stage0) if stage0.is_dir() else None)
        options = network_options(config, self.data)
        runs = {}
        for name in self.models:
            peer = peer_config(config, name, options, trunk, folder / name)
            if speeds:
                peer = self._within_minutes(peer, speeds[name])
            else:
                peer = self.budget.apply(peer, both)
            runs[name] = train_once(peer, PEERS[name], self.announce)
        context = dataclasses.replace(self.context, config=config)
        results = evaluate_stages(main, context, self.split, load_reasoner(main), keep_precisions=True)
        self._add_costs(results["rows"][1:], main, self._last_model(main))
        rows = results["rows"]
        first = 1 + sum(row["name"] == "stage 0 alone" for row in rows)
        frozen = frozen_rows(self.out, context, self.split)
        peers = [row for name, run in runs.items() for row in self._peer_rows(name, run, context)]
        results["rows"] = rows = [rows[0], *frozen, *rows[1:first], *peers, *rows[first:]]
        precisions = {row["name"]: row.pop("precisions") for row in rows[1:]}
        for row in rows:
            row["stuck"] = stuck_attributes(row["attributes"], rows[0]["attributes"])
            if paper := paper_row(config.data.name, row["name"], self.data.schema.attributes):
                row["paper"] = paper
        results["beta"] = getattr(AttributeEmbedder.from_pretrained(RunFolder(main).best), "beta", None)
        results["seconds"] = round(time.monotonic() - started)
        results |= {"seed": seed, "device": device_name(self.accelerator.device), "models": self.models}
        results |= {"budget": str(self.budget), "dataset": config.data.name}
        if self.accelerator.is_main_process:
            np.savez(folder / _PRECISIONS, **precisions)
        return self.finish(folder, results, precisions)

    def finish(
        self, folder: Path, results: dict[str, Any], precisions: Precisions, quiet: bool = False
    ) -> dict[str, Any]:
        """Compare the rows, and write the table."""
        results["differences"] = [difference._asdict() for difference in differences([results], [precisions])]
        add_differences(results, [precisions], self._known(results))
        self.write(folder, results, quiet)
        return results

    def write(self, folder: Path, results: dict[str, Any], quiet: bool = False) -> None:
        """The table in all its forms."""
        if self.accelerator.is_main_process:
            table = write_comparison(folder, results)
            if not quiet:
                self.announce(table)
        self.accelerator.wait_for_everyone()

    def _peer_rows(self, name: str, run: Path, context: RunContext) -> list[dict[str, Any]]:
        model = AttributeEmbedder.from_pretrained(RunFolder(run).best).to(self.accelerator.device)
        rows = evaluate_split(model, context, self.split, keep_precisions=True)["rows"]
        rows = name_rows(name, rows[1:])
        self._add_costs(rows, run, model)
        return rows

    def _last_model(self, run: Path) -> AttributeEmbedder:
        folder = [RunFolder(run).best, *RunFolder(run).trained_stages().values()][-1]
        return AttributeEmbedder.from_pretrained(folder).to(self.accelerator.device)

    def _add_costs(self, rows: list[dict[str, Any]], run: Path, model: AttributeEmbedder) -> None:
        costs = branch_costs(model, self.config.data.detail_size)
        for row in rows:
            if row["name"] != "stage 0 alone":
                cost = costs["first" if row["name"] in FIRST_BRANCHES else "whole"]
                row["costs"] = {**cost._asdict(), "images_per_second": training_speed(run)}

    def _speeds(self) -> dict[str, dict[str, dict[str, float]]]:
        """By network, the seconds of a step and the configured steps of each stage; measured once and kept."""
        configs = {self.config.model.name: self.config}
        configs |= {name: peer_config(self.config, name, self.options, None, self.out / name) for name in self.models}
        return measured_once(self.out / _SECONDS, configs, self.announce, self.accelerator)

    def _within_minutes(self, config: RunConfig, measured: dict[str, dict[str, float]]) -> RunConfig:
        stages = {
            name: with_steps(stage, measured["steps"][name]) for name, stage in config.stages() if name != "stage0"
        }
        return self.budget.apply(dataclasses.replace(config, **stages), 0, measured["seconds"])

    def _known(self, results: dict[str, Any]) -> str | None:
        """The row to compare with, where there is one: what a run delivers decides which rows it has."""
        names = [row["name"] for row in results["rows"]]
        if self.against is None or self.against in names:
            return self.against
        self.announce(f"no row {self.against!r} to compare with; there are: {', '.join(names)}")
        return None


def _read_precisions(folder: Path) -> Precisions:
    with np.load(folder / _PRECISIONS) as file:
        return dict(file)
