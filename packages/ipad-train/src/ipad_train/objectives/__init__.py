"""Objectives: a model and a batch in, named losses out. What differs between methods and stages lives here."""

from __future__ import annotations

from ipad_train.config import RunConfig
from ipad_train.objectives.attribute_classification import AttributeClassification, ValueNaming
from ipad_train.objectives.attribute_diverging import AttributeDiverging
from ipad_train.objectives.batch_layout import BatchLayout
from ipad_train.objectives.clusters import BranchClusters
from ipad_train.objectives.metric_learning import MetricLearning
from ipad_train.objectives.objective import Objective, StageSetup
from ipad_train.objectives.two_branches import TwoBranches

__all__ = [
    "OBJECTIVES",
    "AttributeClassification",
    "AttributeDiverging",
    "BatchLayout",
    "BranchClusters",
    "MetricLearning",
    "Objective",
    "StageSetup",
    "TwoBranches",
    "ValueNaming",
    "objective_of",
]

# What `stageN.objective` may name.
OBJECTIVES: dict[str, type[Objective]] = {
    "classification": AttributeClassification,
    "triplet": MetricLearning,
    "two_branches": TwoBranches,
    "ipad": AttributeDiverging,
}
_OF_STAGE = {"stage0": "classification", "stage1": "triplet", "stage2": "ipad"}


def objective_of(config: RunConfig, stage: str) -> type[Objective]:
    """The class of a stage's objective: what ``stageN.objective`` names, or the stage's own.

    Raises:
        ValueError: an objective that does not exist, or that trains another network than the stage builds.
    """
    own = _OF_STAGE[stage]
    name = getattr(config, stage).objective or own
    fitting = [key for key, cls in OBJECTIVES.items() if cls.network == OBJECTIVES[own].network]
    if name not in fitting:
        raise ValueError(f"{stage}.objective must be one of {', '.join(fitting)}, got {name!r}")
    return OBJECTIVES[name]
