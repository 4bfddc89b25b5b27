"""Which network and which objective a stage trains, and what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ipad_core import IPAD, AttributeEmbedder, create_model
from ipad_core.models import attribute_types
from ipad_train.config import ModelConfig, RunConfig, StageConfig
from ipad_train.data import RunData
from ipad_train.objectives import Objective, StageSetup, objective_of

# Options that a stage-0 classifier shares with the network whose trunk it trains.
_TRUNK_OPTIONS = ("image_size", "trunk")


def make_model(config: RunConfig, stage: str, data: RunData, run_dir: Path) -> AttributeEmbedder:
    """The network of a stage, initialized from the stage before it.

    Stage 0 trains an ``attribute_classifier`` with the trunk of the configured network. Stage 1 starts from that trunk,
    or from ``model.trunk_weights``. Stage 2 starts from stage 1.

    Raises:
        ValueError: stage 2 of a network with one branch.
        FileNotFoundError: ``model.trunk_weights`` names no saved model.
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
        stage1 = run_dir / "stages" / "stage1"
        model.initialize_semantic(IPAD.from_pretrained(stage1, semantic=False) if stage1.is_dir() else None)
        return model
    shape = network_shape(config, data)
    if trained == "first branch":
        if isinstance(shape, IPAD) and shape.spatial is not None:
            options["semantic"] = False  # built when stage 2 needs it
        model = create_model(name, num_attributes=num_attributes, **options)
        source = Path(config.model.trunk_weights) if config.model.trunk_weights else run_dir / "stages" / "stage0"
        if config.model.trunk_weights or source.is_dir():
            model.load_trunk(AttributeEmbedder.from_pretrained(source))
        return model
    trunk = {key: shape.options[key] for key in _TRUNK_OPTIONS}
    return create_model(
        "attribute_classifier", num_attributes=num_attributes, num_values=list(data.schema.num_values), **trunk
    )


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
