"""Re-rank search results of any embeddings."""

from __future__ import annotations

from ipad_rerank.embeddings import EmbeddingSet, read_embeddings, write_embeddings
from ipad_rerank.fit import NoGainWarning
from ipad_rerank.losses import FeatureReasoningLoss
from ipad_rerank.metrics import (
    Evaluation,
    Interval,
    average_precision,
    evaluate,
    hit_rate_at_k,
    mean_average_precision,
    ndcg_at_k,
    oracle_mean_average_precision,
    paired_bootstrap,
    precision_at_k,
    recall_at_k,
    retrieval_average_precision,
    retrieval_map,
)
from ipad_rerank.ranking import Ranking, rank
from ipad_rerank.rerankers._density import UnfamiliarDensityWarning
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.database_augmentation import DatabaseAugmentation
from ipad_rerank.rerankers.diffusion import GraphDiffusion
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning
from ipad_rerank.rerankers.k_reciprocal import KReciprocal, k_reciprocal
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion
from ipad_rerank.tune import TunedResult, tune

__all__ = [
    "AlphaQueryExpansion",
    "AverageQueryExpansion",
    "Chain",
    "DatabaseAugmentation",
    "EmbeddingSet",
    "Evaluation",
    "FeatureReasoning",
    "FeatureReasoningLoss",
    "GraphDiffusion",
    "Interval",
    "KReciprocal",
    "NoGainWarning",
    "Ranking",
    "TunedResult",
    "UnfamiliarDensityWarning",
    "average_precision",
    "evaluate",
    "hit_rate_at_k",
    "k_reciprocal",
    "mean_average_precision",
    "ndcg_at_k",
    "oracle_mean_average_precision",
    "paired_bootstrap",
    "precision_at_k",
    "rank",
    "read_embeddings",
    "recall_at_k",
    "retrieval_average_precision",
    "retrieval_map",
    "tune",
    "write_embeddings",
]
