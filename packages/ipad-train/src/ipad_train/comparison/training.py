"""The runs of a comparison with one seed: the configured network first, then its peers from the same trunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ipad_train.budget import Budget, with_steps
from ipad_train.comparison.peers import PEERS, peer_config
from ipad_train.comparison.plan import ComparisonPlan
from ipad_train.config import RunConfig
from ipad_train.config_files import load_run_config
from ipad_train.networks import network_options
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.stage_lengths import resolve_stages
from ipad_train.step_speed import measured_once
from ipad_train.trained_runs import train_once

_SECONDS = "step-seconds.json"


@dataclass(frozen=True)
class TrainedNetworks:
    """The runs of one seed.

    Args:
        main: Folder of the configured network's run.
        config: Its configuration, with what its start decided: weights, lengths.
        peers: Folders of the other networks' runs, by network.
    """

    main: Path
    config: RunConfig
    peers: Mapping[str, Path]


def train_networks(context: RunContext, plan: ComparisonPlan, folder: Path, seed: int) -> TrainedNetworks:
    """Train the configured network and its peers within the plan's budget, or find their runs.

    Args:
        context: The comparison; its folder keeps what all seeds share.
        plan: The peers and the budget.
        folder: Holds one folder a network.
        seed: Of all runs.
    """
    speeds = _speeds(context, plan) if plan.budget.kind == "minutes" else {}
    config = dataclasses.replace(context.config, seed=seed)
    name = config.model.name
    main_config = dataclasses.replace(config, output_dir=str(folder / name))
    both = None
    if speeds:
        main_config = _within_minutes(plan.budget, main_config, speeds[name])
    elif plan.budget.kind == "steps-per-branch":  # the only other one that changes the configured network
        main_config, _ = resolve_stages(main_config, context.data, context.accelerator.num_processes)
        both = main_config.stage1.steps + main_config.stage2.steps
        main_config = plan.budget.apply(main_config, both)
    main = train_once(main_config, name, context.announce, context.data)
    config = load_run_config(main)
    both = both or config.stage1.steps + config.stage2.steps
    stage0 = RunFolder(main).stage("stage0")
    trunk = config.model.trunk_weights or (str(stage0) if stage0.is_dir() else None)
    options = network_options(config, context.data)
    peers = {}
    for name in plan.models:
        peer = peer_config(config, name, options, trunk, folder / name)
        if speeds:
            peer = _within_minutes(plan.budget, peer, speeds[name])
        else:
            peer = plan.budget.apply(peer, both)
        peers[name] = train_once(peer, PEERS[name], context.announce, context.data)
    return TrainedNetworks(main, config, peers)


def _speeds(context: RunContext, plan: ComparisonPlan) -> dict[str, dict[str, dict[str, float]]]:
    """By network, the seconds of a step and the configured steps of each stage; measured once and kept."""
    config, options = context.config, network_options(context.config, context.data)
    configs = {name: peer_config(config, name, options, None, context.folder / name) for name in plan.models}
    return measured_once(context.folder / _SECONDS, {config.model.name: config, **configs}, context)


def _within_minutes(budget: Budget, config: RunConfig, measured: Mapping[str, Mapping[str, float]]) -> RunConfig:
    stages = {name: with_steps(stage, measured["steps"][name]) for name, stage in config.stages() if name != "stage0"}
    return budget.apply(dataclasses.replace(config, **stages), 0, measured["seconds"])
