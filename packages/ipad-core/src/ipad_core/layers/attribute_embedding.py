"""The attribute as a vector: p^0 of the paper."""

from __future__ import annotations

from torch import Tensor, nn


class AttributeEmbedding(nn.Module):
    """One learned vector per attribute and query, layer-normalized, which the paper's text does not say of p^0.

    Args:
        num_attributes: A.
        dim: Width c.
        num_queries: Vectors per attribute (parallel queries); the paper has one.

    Shape:
        attribute_ids ``(B,)``; returns ``(B, num_queries, dim)``.
    """

    def __init__(self, num_attributes: int, dim: int, num_queries: int = 1) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.table = nn.Embedding(num_attributes, num_queries * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, attribute_ids: Tensor) -> Tensor:
        return self.norm(self.table(attribute_ids).unflatten(1, (self.num_queries, -1)))
