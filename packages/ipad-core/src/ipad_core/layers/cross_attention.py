"""The attribute reads the patch tokens (Eq. 7 to 9)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class AttributeCrossAttention(nn.Module):
    """Multi-head cross-attention with the attribute as the only query, then a residual feed-forward network.

    ``l_i = softmax(Q_a K^T / sqrt(D)) V`` (Eq. 7), ``l = FC([l_1 .. l_h])`` (Eq. 8), ``f = l + FFN(LN(l))`` (Eq. 9). D is
    the width of a head. The attribute embedding is one of this layer; the text does not say whether it is IP-SP's.

    Args:
        num_attributes: A.
        dim: Width of the tokens.
        embed_dim: d, of the result.
        num_heads: h; must divide ``dim``.

    Shape:
        tokens ``(B, N, dim)``, attribute_ids ``(B,)``; returns ``(B, embed_dim)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, num_attributes: int, dim: int, embed_dim: int, num_heads: int = 8) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the tokens' width {dim}, got {num_heads}")
        self.num_heads = num_heads
        self.attribute = nn.Embedding(num_attributes, dim)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(dim, embed_dim)
        self.ffn_norm = nn.LayerNorm(embed_dim)
        self.ffn = nn.Sequential(nn.Linear(embed_dim, 2 * embed_dim), nn.GELU(), nn.Linear(2 * embed_dim, embed_dim))

    def forward(self, tokens: Tensor, attribute_ids: Tensor) -> Tensor:
        query = self.query(self.attribute(attribute_ids)).unsqueeze(1)  # (B, 1, dim)
        keys, values = self.key_value(self.norm(tokens)).chunk(2, dim=2)
        query, keys, values = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (query, keys, values))
        heads = F.scaled_dot_product_attention(query, keys, values)  # (B, heads, 1, D)
        joined = self.project(heads.transpose(1, 2).flatten(1))
        return joined + self.ffn(self.ffn_norm(joined))
