"""Re-rank search results of any embeddings."""

from __future__ import annotations

from ipad_rerank.fit import NoGainWarning
from ipad_rerank.losses import FeatureReasoningLoss
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._density import UnfamiliarDensityWarning
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning

__all__ = [
    "FeatureReasoning",
    "FeatureReasoningLoss",
    "NoGainWarning",
    "Ranking",
    "UnfamiliarDensityWarning",
    "rank",
]
