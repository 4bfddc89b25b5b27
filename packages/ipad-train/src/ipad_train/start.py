"""What a run starts from, and what it is about to do: weights, and the plan that its first lines print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ipad_core import IPAD, AttributeEmbedder, WeightsNotFoundError, create_model, describe_weights
from ipad_data import EntryTable, image_sizes
from ipad_train.config import RunConfig, StageConfig
from ipad_train.data import RunData
from ipad_train.networks import network_options
from ipad_train.run_folder import MODEL_CONFIG, model_folder
from ipad_train.stage_lengths import epochs_of
from ipad_train.starting_model import load_start, take_over, without_own_weights


def find_starting_weights(config: RunConfig, num_attributes: int) -> tuple[RunConfig, dict[str, str], list[str]]:
    """Look for the weights that the configured network wants, before anything is trained.

    Where pretrained weights of the trunk are asked for and nowhere to be had, stage 0 stands in, from random weights of
    which none are frozen. Where they are there, a stage 0 with ``when: without_weights`` is left out.

    Returns:
        The configuration to train; what each trunk starts from, as a text; and what the user has to know.

    Raises:
        WeightsNotFoundError: no weights, and stage 0 cannot stand in: it has no length, or they are IP-SE's.
        FileNotFoundError: ``model.init`` or ``model.trunk_weights`` names no saved model.
        ValueError: options that the network does not take; a stage 2 for a network with one branch; a ``model.init`` of
            which nothing fits.
    """
    if config.model.init:
        return _find_start(config, num_attributes)
    _check_trunk_weights(config)
    try:
        model = build_network(config, num_attributes)
    except WeightsNotFoundError as error:
        config = _without_pretrained(config, error)
        model = build_network(config, num_attributes)
        return (
            config,
            _described(model),
            [
                f"WARNING: {error} Stage 0 stands in: the trunk learns from random weights, which a few thousand photos do "
                "not make up for. With pretrained weights expect more."
            ],
        )
    if config.stage0.when == "without_weights" and model.weights["trunk"]["source"] != "random":
        config = dataclasses.replace(config, stage0=StageConfig())
    return config, _described(model), []


def _find_start(config: RunConfig, num_attributes: int) -> tuple[RunConfig, dict[str, str], list[str]]:
    config = without_own_weights(config)
    model, source = build_network(config, num_attributes), config.model.init
    take_over(model, load_start(source), source)
    return config, {name: f"{text}, by way of {source}" for name, text in _described(model).items()}, []


def _check_trunk_weights(config: RunConfig) -> None:
    source = config.model.trunk_weights
    if source is not None and not (model_folder(Path(source)) / MODEL_CONFIG).is_file():
        raise FileNotFoundError(f"model.trunk_weights={source} is no saved model and no run: it has no {MODEL_CONFIG}")


_LOOKED_AT = 200  # photos whose sizes stand for all


def leave_out_zoom(config: RunConfig, data: RunData) -> tuple[RunConfig, list[str]]:
    """Without a stage 2 that has nothing to zoom into: ``when: larger_photos``, and half of the photos are not larger than
    what IP-SP reads. A second branch then sees the same pixels again, and only costs; docs/photos.md has the numbers.
    """
    if config.stage2.when != "larger_photos" or not config.stage2.is_trained:
        return config, []
    train = data.splits["train"]
    rows = np.unique(np.linspace(0, train.num_rows - 1, _LOOKED_AT).astype(int))
    sides = np.maximum.reduce(image_sizes(train, rows.tolist()), axis=1, initial=0)
    reads = network_options(config, data)["image_size"]
    if not len(sides) or np.median(sides) > reads:
        return config, []
    return dataclasses.replace(config, stage2=StageConfig()), [
        f"stage2 is left out: IP-SP reads {reads} px and the longer side of half of the photos has at most "
        f"{int(np.median(sides))}, so that IP-SE has nothing to zoom into. stage2.when=always trains it nevertheless."
    ]


def describe_plan(config: RunConfig, data: RunData, weights: Mapping[str, str]) -> list[str]:
    """What a run is about to do, a line each: dataset, network and its weights, stages, re-ranking."""
    entries = data.train_entries
    images = len(np.unique(entries.rows))
    queries = len(EntryTable.from_dataset(data.splits["validation"], "query"))
    lines = [
        f"data: {config.data.name}, {images} labelled training images with {len(entries)} labels of "
        f"{len(data.schema.attributes)} attributes ({data.schema.total_values} values); validation asks {queries} queries",
        f"network: {config.model.name}; " + "; ".join(f"{name}: {text}" for name, text in weights.items()),
    ]
    if config.model.trunk_weights:
        lines.append(f"the trunk starts from {config.model.trunk_weights}")
    for name, stage in config.stages():
        kind = {"triplet": "triplets", "balanced": "labels"}.get(stage.sampler, "images")
        lines.append(
            f"{name}: {stage.steps} steps of {stage.batch_size} {kind} = {epochs_of(stage, images):.1f} epochs, "
            f"learning rate {stage.learning_rate:g}"
        )
    stage2 = config.stage2
    if stage2.is_trained and config.clusters.enabled and stage2.steps < config.clusters.refresh_every:
        lines.append(
            f"stage2 is shorter than clusters.refresh_every={config.clusters.refresh_every}: the cluster loss never starts"
        )
    if config.values.enabled:
        lines.append("then probabilities of values are fitted on training embeddings, and kept if validation rises")
    if config.rerank.enabled:
        also = " and tried with query expansion" if config.rerank.expand else ""
        lines.append(
            f"then re-ranking is fitted on the {config.rerank.fit_split} split{also}, and kept if validation rises"
        )
    return lines


def build_network(config: RunConfig, num_attributes: int) -> AttributeEmbedder:
    """The configured network.

    Raises:
        WeightsNotFoundError: its pretrained weights are nowhere to be had.
        ValueError: options that it does not take; a stage 2 although it has one branch.
    """
    try:
        model = create_model(config.model.name, num_attributes=num_attributes, **config.model.options)
    except TypeError as error:
        raise ValueError(f"model.options does not fit model.name {config.model.name!r}: {error}") from None
    if config.stage2.is_trained and (not isinstance(model, IPAD) or model.semantic is None):
        raise ValueError(
            f"stage2 trains a second branch, which model.name {config.model.name!r} does not have; set stage2.steps=0"
        )
    return model


def _described(model: AttributeEmbedder) -> dict[str, str]:
    return {name: describe_weights(record) for name, record in model.weights.items()}


def _without_pretrained(config: RunConfig, error: WeightsNotFoundError) -> RunConfig:
    trunk: Any = config.model.options.get("trunk")
    if not isinstance(trunk, Mapping) or not trunk.get("pretrained"):
        raise error
    if not config.stage0.is_trained:
        raise WeightsNotFoundError(f"{error} Or give stage0 a length, e.g. stage0.epochs=20: it stands in for them.")
    # Nothing of random weights is worth freezing: stage 0 trains them.
    bare = {key: value for key, value in trunk.items() if key not in ("pretrained", "freeze", "freeze_norm")}
    options = {**config.model.options, "trunk": bare}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, options=options))
