"""Everything of a configuration that only shows when a stage starts or a run ends, tried before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_data import BatchAugmentation
from ipad_rerank import FeatureReasoning
from ipad_rerank.rerankers.feature_reasoning.fit import fit_reasoner
from ipad_rerank.rerankers.feature_reasoning.training import FitOptions
from ipad_train.config import RunConfig
from ipad_train.data import RunData, make_sampler
from ipad_train.objectives import TwoBranches, objective_of
from ipad_train.vectors import vectors_of

_SET_BY_THE_RUN = ("n_r", "n_t", "steps", "seed", "verbose", "progress", "device", "max_vectors")


def rehearse(config: RunConfig, data: RunData, model: AttributeEmbedder, processes: int) -> None:
    """Make what every stage will ask for, without its weights.

    Args:
        config: The run, with lengths in steps.
        data: Its splits.
        model: The configured network; its weights do not matter.
        processes: That train.

    Raises:
        ValueError: something does not fit; the message begins with its key.
        FileNotFoundError: ``data.vectors`` names no file.
    """
    _check_augmentation("data.augmentation", config.data.augmentation)
    _check_augmentation("data.anchor_augmentation", config.data.anchor_augmentation)
    _check_reasoning(config)
    for name, stage in config.stages():
        try:
            sampler = make_sampler(data, stage, config.seed)
            sampler.plan(0, 0, 0, processes * (stage.accumulation or 1))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if issubclass(objective_of(config, name), TwoBranches):
            _check_contrast(config, model)
    for split in ("train", "validation"):
        vectors_of(model, data.splits[split], config.data)


def _check_augmentation(key: str, options: Mapping[str, Any]) -> None:
    try:
        BatchAugmentation(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{key} does not fit ipad_data's BatchAugmentation: {error}") from None


def _check_reasoning(config: RunConfig) -> None:
    further = [name for name, kind in signature(fit_reasoner).parameters.items() if kind.kind == kind.KEYWORD_ONLY]
    further += [*signature(FitOptions).parameters, *signature(FeatureReasoning).parameters]
    known = [name for name in further if name not in _SET_BY_THE_RUN]
    for name in config.rerank.options:
        if name not in known:
            near = get_close_matches(name, known) or sorted(known)
            raise ValueError(
                f"rerank.options holds {name!r}, which is none of the further arguments of FeatureReasoning.fit; nearest: "
                f"{', '.join(near)}"
            )


def _check_contrast(config: RunConfig, model: AttributeEmbedder) -> None:
    if config.losses.contrast_weight and model.architecture == "asen_pp":
        raise ValueError(
            f"losses.contrast_weight must be 0 for {model.architecture}, which has no background feature; got "
            f"{config.losses.contrast_weight}"
        )
