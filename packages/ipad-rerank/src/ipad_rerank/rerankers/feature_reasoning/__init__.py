"""Feature Reasoning: the re-ranker, its fit, and the mathematics behind it."""

from ipad_rerank.rerankers.feature_reasoning.density import UnfamiliarDensityWarning
from ipad_rerank.rerankers.feature_reasoning.fit import NoGainWarning
from ipad_rerank.rerankers.feature_reasoning.loss import FeatureReasoningLoss
from ipad_rerank.rerankers.feature_reasoning.reranker import FeatureReasoning

__all__ = ["FeatureReasoning", "FeatureReasoningLoss", "NoGainWarning", "UnfamiliarDensityWarning"]
