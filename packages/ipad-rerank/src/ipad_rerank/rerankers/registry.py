"""The re-rankers that ``tune``, ``compare`` and saved folders know by name."""

from __future__ import annotations

from ipad_rerank.rerankers.database_augmentation import DatabaseAugmentation
from ipad_rerank.rerankers.diffusion import GraphDiffusion
from ipad_rerank.rerankers.k_reciprocal import KReciprocal
from ipad_rerank.rerankers.plain import PlainReranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion

RERANKERS: dict[str, type[PlainReranker]] = {
    "average_query_expansion": AverageQueryExpansion,
    "alpha_query_expansion": AlphaQueryExpansion,
    "database_augmentation": DatabaseAugmentation,
    "k_reciprocal": KReciprocal,
    "diffusion": GraphDiffusion,
}
