"""How good is a ranking: per-query measures, their averages, the ceiling of re-ranking, and confidence intervals."""

from ipad_rerank.metrics.at_k import hit_rate_at_k, ndcg_at_k, precision_at_k, recall_at_k
from ipad_rerank.metrics.average_precision import (
    average_precision,
    mean_average_precision,
    oracle_average_precision,
    oracle_mean_average_precision,
)
from ipad_rerank.metrics.evaluation import Evaluation, evaluate
from ipad_rerank.metrics.retrieval import retrieval_average_precision, retrieval_map
from ipad_rerank.metrics.summary import Interval, average, paired_bootstrap, per_group

__all__ = [
    "Evaluation",
    "Interval",
    "average",
    "average_precision",
    "evaluate",
    "hit_rate_at_k",
    "mean_average_precision",
    "ndcg_at_k",
    "oracle_average_precision",
    "oracle_mean_average_precision",
    "paired_bootstrap",
    "per_group",
    "precision_at_k",
    "recall_at_k",
    "retrieval_average_precision",
    "retrieval_map",
]
