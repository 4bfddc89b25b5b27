"""A guard around any re-ranker: it acts only for queries that it is likely to help."""

from ipad_rerank.rerankers.guard.gate import Gate
from ipad_rerank.rerankers.guard.reranker import Guard, LargerGalleryWarning

__all__ = ["Gate", "Guard", "LargerGalleryWarning"]
