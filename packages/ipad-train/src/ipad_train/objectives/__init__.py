"""Objectives: a model and a batch in, named losses out. What differs between methods and stages lives here."""

from ipad_train.objectives.attribute_classification import AttributeClassification, ValueNaming
from ipad_train.objectives.attribute_diverging import AttributeDiverging
from ipad_train.objectives.clusters import BranchClusters
from ipad_train.objectives.metric_learning import MetricLearning

__all__ = ["AttributeClassification", "AttributeDiverging", "BranchClusters", "MetricLearning", "ValueNaming"]
