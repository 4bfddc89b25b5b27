"""k-reciprocal re-ranking."""

from ipad_rerank.rerankers.k_reciprocal.reranker import KReciprocal, k_reciprocal

__all__ = ["KReciprocal", "k_reciprocal"]
