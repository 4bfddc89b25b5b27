"""Re-rank search results of any embeddings."""

from ipad_rerank.files.embeddings import EmbeddingSet, read_embeddings, write_embeddings
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
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.database_augmentation import DatabaseAugmentation
from ipad_rerank.rerankers.diffusion import GraphDiffusion
from ipad_rerank.rerankers.feature_reasoning import (
    FeatureReasoning,
    FeatureReasoningLoss,
    NoGainWarning,
    UnfamiliarDensityWarning,
)
from ipad_rerank.rerankers.guard import Guard, LargerGalleryWarning
from ipad_rerank.rerankers.k_reciprocal import KReciprocal, k_reciprocal
from ipad_rerank.rerankers.plain import PlainReranker
from ipad_rerank.rerankers.protocols import CandidateReranker, GalleryAugmenter, QueryExpander, Reranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion
from ipad_rerank.rerankers.saving import load
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.selection import TunedResult, compare, tune

__all__ = [
    "AlphaQueryExpansion",
    "AverageQueryExpansion",
    "CandidateReranker",
    "Chain",
    "DatabaseAugmentation",
    "EmbeddingSet",
    "Evaluation",
    "FeatureReasoning",
    "FeatureReasoningLoss",
    "GalleryAugmenter",
    "GraphDiffusion",
    "Guard",
    "Interval",
    "KReciprocal",
    "LargerGalleryWarning",
    "NoGainWarning",
    "PlainReranker",
    "QueryExpander",
    "Ranking",
    "Reranker",
    "TunedResult",
    "UnfamiliarDensityWarning",
    "average_precision",
    "compare",
    "evaluate",
    "hit_rate_at_k",
    "k_reciprocal",
    "load",
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
