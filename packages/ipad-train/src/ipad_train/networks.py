"""Which network and which objective a stage trains, and what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ipad_core import IPAD, AttributeEmbedder, FeatureMaps, create_model
from ipad_core.backbones import Vectors
from ipad_core.models import attribute_types
from ipad_train.config import ModelConfig, RunConfig, StageConfig
from ipad_train.data import RunData
from ipad_train.objectives import (
    AttributeClassification,
    AttributeDiverging,
    BranchClusters,
    MetricLearning,
    ValueNaming,
)

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
    if stage == "stage2":
        model = create_model(name, num_attributes=num_attributes, **options)
        if not isinstance(model, IPAD) or model.semantic is None:
            raise ValueError(
                f"stage2 trains a second branch, which model.name {name!r} does not have; set stage2.steps=0"
            )
        stage1 = run_dir / "stages" / "stage1"
        model.initialize_semantic(IPAD.from_pretrained(stage1, semantic=False) if stage1.is_dir() else None)
        return model
    shape = network_shape(config, data)
    if stage == "stage1":
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
) -> nn.Module:
    """What a stage minimizes."""
    owners, losses = data.value_attribute_ids, config.losses
    if name == "stage0":
        return AttributeClassification(model, owners)
    if name == "stage1":
        branch = "spatial" if getattr(model, "spatial", None) is not None else "embedding"
        naming = _naming(model, [branch], owners).get(branch) if losses.naming_weight else None
        return MetricLearning(
            model, stage.sampler, losses.margin, config.data.anchor_views, losses.average, naming, losses.naming_weight
        )
    train_spatial = stage.spatial_learning_rate is None or stage.spatial_learning_rate > 0
    clusters = None
    if config.clusters.enabled:
        clusters = BranchClusters(
            model, config.clusters, data.value_counts, owners, losses.margin, stage.steps, train_spatial
        )
    branches = ["spatial", "semantic"] if train_spatial else ["semantic"]
    naming = _naming(model, branches, owners) if losses.naming_weight else None
    return AttributeDiverging(model, stage.sampler, losses, clusters, train_spatial, config.data.anchor_views, naming)


def blank_input(model: AttributeEmbedder, side: int | None = None) -> torch.Tensor | FeatureMaps:
    """One black uint8 image where the network lies, or one vector of zeros for a network that reads vectors.

    Args:
        model: The network.
        side: Of the image, px; :attr:`AttributeEmbedder.detail_size` when None.
    """
    device, side = model.trunk.mean.device, side or model.detail_size
    if isinstance(model.trunk, Vectors):
        return FeatureMaps.from_vectors(torch.zeros(1, model.trunk.num_features, device=device))
    return torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)


def _naming(model: AttributeEmbedder, branches: list[str], owners: torch.Tensor) -> dict[str, ValueNaming]:
    """A layer that names values for each branch, as wide as what the branch answers to a blank image."""
    was_training = model.training
    blank = blank_input(model)
    with torch.no_grad():
        output = model.eval()(blank, torch.zeros(1, dtype=torch.int64))
    model.train(was_training)
    return {branch: ValueNaming(getattr(output, branch).shape[1], owners) for branch in branches}
