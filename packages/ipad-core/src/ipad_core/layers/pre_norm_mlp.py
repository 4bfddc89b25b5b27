"""Residual MLP behind a layer norm, normed again (RPF)."""

from __future__ import annotations

from torch import Tensor, nn


class PreNormMLP(nn.Module):
    """``LN'(h + W_2 act(W_1 LN(h)))``.

    Args:
        dim: d.
        reduction: The hidden width is d / reduction.
        activation: ``relu`` or ``gelu``.
        shared_norm: LN' is LN itself.
        dropout: Of both layers of the MLP.

    References:
        Dong et al. 2023 (RPF): the region branch shares one norm, the patch branch has two.
    """

    def __init__(self, dim: int, reduction: int, activation: str, shared_norm: bool, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = max(1, dim // reduction)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.outer_norm = None if shared_norm else nn.LayerNorm(dim, eps=1e-6)
        act = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), act, nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        outer = self.norm if self.outer_norm is None else self.outer_norm
        return outer(features + self.mlp(self.norm(features)))
