"""The attribute filters the patches (the patch branch of RPF)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipad_core.layers.pre_norm_mlp import PreNormMLP


class PatchAttention(nn.Module):
    """Multi-head cross-attention with the attribute as the only query, then a residual MLP.

    Attribute and patches get a learned type embedding each and go through one layer norm.

    Args:
        attribute_dim: Width of the attribute vector.
        dim: Width of the tokens.
        embed_dim: d, of the result.
        num_heads: Must divide ``dim``.
        reduction: r of the MLP.
        dropout: Of the MLP.

    Shape:
        tokens ``(B, N, dim)``, attribute ``(B, attribute_dim)``; returns ``(B, embed_dim)``.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.

    References:
        Dong et al. 2023 (RPF), with the type embeddings of its public release.
    """

    def __init__(
        self,
        attribute_dim: int,
        dim: int,
        embed_dim: int,
        num_heads: int = 12,
        reduction: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide the tokens' width {dim}, got {num_heads}")
        self.num_heads = num_heads
        self.attribute = nn.Linear(attribute_dim, dim)
        self.types = nn.Parameter(torch.randn(2, dim) * 0.02)  # of the attribute, of the patches
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)
        self.project = nn.Linear(dim, embed_dim)
        self.mlp = PreNormMLP(embed_dim, reduction, "gelu", shared_norm=False, dropout=dropout)

    def forward(self, tokens: Tensor, attribute: Tensor) -> Tensor:
        asking = self.norm(self.attribute(attribute) + self.types[0]).unsqueeze(1)  # (B, 1, dim)
        tokens = self.norm(tokens + self.types[1])
        query, key, value = (
            layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, asking), (self.key, tokens), (self.value, tokens))
        )
        heads = F.scaled_dot_product_attention(query, key, value)  # (B, heads, 1, dim / heads)
        return self.mlp(self.project(self.out(heads.transpose(1, 2).flatten(1))))
