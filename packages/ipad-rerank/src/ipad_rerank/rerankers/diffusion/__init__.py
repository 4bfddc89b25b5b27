"""Graph diffusion."""

from ipad_rerank.rerankers.diffusion.reranker import GraphDiffusion

__all__ = ["GraphDiffusion"]
