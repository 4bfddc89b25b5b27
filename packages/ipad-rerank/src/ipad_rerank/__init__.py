"""Re-rank search results of any embeddings."""

from __future__ import annotations

from ipad_rerank.ranking import Ranking, rank

__all__ = ["Ranking", "rank"]
