"""The rows of a comparison's table: trained networks evaluated, with their costs, beside what needs no training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.chance import stuck_attributes
from ipad_train.comparison.peers import FIRST_BRANCHES, name_rows
from ipad_train.comparison.training import TrainedNetworks
from ipad_train.costs import branch_costs
from ipad_train.evaluate import evaluate_split
from ipad_train.frozen import frozen_rows
from ipad_train.paper import paper_row
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.run_results import evaluate_stages
from ipad_train.trained_runs import training_speed


def evaluate_networks(context: RunContext, networks: TrainedNetworks, split: str) -> dict[str, Any]:
    """Evaluate the runs of one seed on a split.

    Args:
        context: The comparison; in its folder the rows without training are kept for all seeds.
        networks: What was trained.
        split: Name of the split.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`, with the rows of all networks. Each row has ``stuck``, all but the
        first ``precisions``, those of trained networks ``costs``, and what the paper has ``paper``.
    """
    main, of_run = networks.main, dataclasses.replace(context, config=networks.config)
    results = evaluate_stages(main, of_run, split, keep_precisions=True)
    rows = results["rows"]
    _add_costs(rows[1:], main, _last_model(main, context), context)
    first = 1 + sum(row["name"] == "stage 0 alone" for row in rows)
    frozen, peers = frozen_rows(context.folder, of_run, split), []
    for name, run in networks.peers.items():
        model = AttributeEmbedder.from_pretrained(RunFolder(run).best).to(context.accelerator.device)
        found = name_rows(name, evaluate_split(model, of_run, split, keep_precisions=True)["rows"][1:])
        _add_costs(found, run, model, context)
        peers += found
    results["rows"] = rows = [rows[0], *frozen, *rows[1:first], *peers, *rows[first:]]
    for row in rows:
        row["stuck"] = stuck_attributes(row["attributes"], rows[0]["attributes"])
        if paper := paper_row(context.config.data.name, row["name"], context.data.schema.attributes):
            row["paper"] = paper
    results["beta"] = getattr(AttributeEmbedder.from_pretrained(RunFolder(main).best), "beta", None)
    return results


def _last_model(run: Path, context: RunContext) -> AttributeEmbedder:
    folder = [RunFolder(run).best, *RunFolder(run).trained_stages().values()][-1]
    return AttributeEmbedder.from_pretrained(folder).to(context.accelerator.device)


def _add_costs(rows: list[dict[str, Any]], run: Path, model: AttributeEmbedder, context: RunContext) -> None:
    costs = branch_costs(model, context.config.data.detail_size)
    for row in rows:
        if row["name"] != "stage 0 alone":
            cost = costs["first" if row["name"] in FIRST_BRANCHES else "whole"]
            row["costs"] = {**cost._asdict(), "images_per_second": training_speed(run)}
