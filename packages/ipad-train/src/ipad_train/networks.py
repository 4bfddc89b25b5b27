"""Which network and which objective a stage trains, and what it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ipad_core import IPAD, AttributeEmbedder, create_model
from ipad_core.models import attribute_types
from ipad_train.config import ModelConfig, RunConfig, StageConfig
from ipad_train.data import RunData
from ipad_train.objectives import Objective, StageSetup, objective_of
from ipad_train.run_folder import RunFolder, model_folder
from ipad_train.starting_model import load_start, take_over

# Options that a stage-0 classifier shares with the network whose trunk it trains.
_TRUNK_OPTIONS = ("image_size", "trunk")


def make_model(
    config: RunConfig, stage: str, data: RunData, run_dir: Path, announce: Callable[[str], None] = lambda line: None
) -> AttributeEmbedder:
    """The network of a stage, initialized from the stage before it.

    Stage 0 trains an ``attribute_classifier`` with the trunk of the configured network. Stage 1 starts from that trunk,
    from ``model.trunk_weights``, or from all of ``model.init``. Stage 2 takes IP-SP from stage 1, or from ``model.init``
    where there is no stage 1, and IP-SE from ``model.init`` where that has one. Lines on what fits of it are announced.

    Raises:
        ValueError: stage 2 of a network with one branch.
        FileNotFoundError: ``model.trunk_weights`` or ``model.init`` names no saved model.
    """
    num_attributes = len(data.schema.attributes)
    name, options = config.model.name, _options(config.model, data)
    trained = objective_of(config, stage).network
    if trained == "both branches":
        model = create_model(name, num_attributes=num_attributes, **options)
        if not isinstance(model, IPAD) or model.semantic is None:
            raise ValueError(
                f"stage2 trains a second branch, which model.name {name!r} does not have; set stage2.steps=0"
            )
        stage1, init = RunFolder(run_dir).stage("stage1"), config.model.init
        start = load_start(init) if init else None
        if start is not None and not stage1.is_dir():
            _announce_all(announce, take_over(model, start, init, "first"))
        model.initialize_semantic(IPAD.from_pretrained(stage1, semantic=False) if stage1.is_dir() else None)
        if start is not None:
            _announce_all(announce, take_over(model, start, init, "second"))
        return model
    shape = network_shape(config, data)
    if trained == "first branch":
        if isinstance(shape, IPAD) and shape.spatial is not None:
            options["semantic"] = False  # built when stage 2 needs it
        model = create_model(name, num_attributes=num_attributes, **options)
        weights, stage0 = config.model.trunk_weights, RunFolder(run_dir).stage("stage0")
        if config.model.init:
            _announce_all(announce, take_over(model, load_start(config.model.init), config.model.init))
        elif weights or stage0.is_dir():
            model.load_trunk(AttributeEmbedder.from_pretrained(model_folder(Path(weights)) if weights else stage0))
        return model
    trunk = {key: shape.options[key] for key in _TRUNK_OPTIONS}
    return create_model(
        "attribute_classifier", num_attributes=num_attributes, num_values=list(data.schema.num_values), **trunk
    )


def _announce_all(announce: Callable[[str], None], lines: Iterable[str]) -> None:
    for line in lines:
        announce(line)


def network_options(config: RunConfig, data: RunData) -> dict[str, Any]:
    """All options of the configured network, with those that its preset fills in."""
    return network_shape(config, data).options


def network_shape(config: RunConfig, data: RunData) -> AttributeEmbedder:
    """The configured network without values in its tensors, for what its options and shapes tell."""
    with torch.device("meta"):  # where no pretrained weights are looked for
        return create_model(
            config.model.name, num_attributes=len(data.schema.attributes), **_options(config.model, data)
        )


def _options(model: ModelConfig, data: RunData) -> dict[str, Any]:
    """Options of the configured network; HAEN's ``types`` come from the schema's names where none are given."""
    options = dict(model.options)
    if model.name in ("haen", "haen_tiny") and options.get("types") is None:
        options["types"] = attribute_types(data.schema.attributes)
    return options


def make_objective(
    config: RunConfig, name: str, stage: StageConfig, model: AttributeEmbedder, data: RunData
) -> Objective:
    """What a stage minimizes.

    Raises:
        ValueError: ``stageN.objective`` names none that fits the stage.
    """
    return objective_of(config, name).of_stage(StageSetup(config, stage, data), model)
