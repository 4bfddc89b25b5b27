"""Graph diffusion."""

from __future__ import annotations

from ipad_rerank.rerankers.diffusion.reranker import GraphDiffusion

__all__ = ["GraphDiffusion"]
