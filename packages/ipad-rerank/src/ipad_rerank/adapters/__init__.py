"""Re-ranking on top of search engines. Import the one you use; each needs its extra."""

from ipad_rerank.adapters.faiss import FaissSearch
from ipad_rerank.adapters.hits import Hit
from ipad_rerank.adapters.milvus import MilvusSearch

__all__ = ["FaissSearch", "Hit", "MilvusSearch"]
