"""The network o of Eq. 12: a subgraph's sorted similarities to their update."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATISTICS = 7
"""Numbers that describe the density of a subgraph, see :class:`UpdateNetwork`."""


class UpdateNetwork(nn.Module):
    """Instance norm of the two rows of a subgraph, then two hidden ReLU layers; the last layer starts at zero.

    The instance norm takes away the level and the spread of the similarities, which tell how dense the gallery is and
    so how many positives to expect; six statistics of the rows, and the length of the sequence, bring them back to the
    first hidden layer.

    Args:
        n_r: Longest sequence. Shorter ones use the first columns of each row, the nearest nodes.
        hidden_width: Units of both hidden layers.

    Shape:
        center, query ``(B, m, n)``, n <= n_r: rows of m subgraphs; returns two tensors of that shape. The query's rows
        hold the same numbers in different orders.
    """

    def __init__(self, n_r: int, hidden_width: int = 64) -> None:
        super().__init__()
        self.n_r = n_r
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(()))
        self.first = nn.Linear(2 * n_r, hidden_width)
        self.density = nn.Linear(STATISTICS, hidden_width, bias=False)
        self.hidden = nn.Linear(hidden_width, hidden_width)
        self.last = nn.Linear(hidden_width, 2 * n_r)
        self.reset()

    def reset(self) -> None:
        """Answer zero to everything."""
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def is_zero(self) -> bool:
        """True while it answers zero to everything."""
        return not (bool(self.last.weight.any()) or bool(self.last.bias.any()))

    def forward(self, center: Tensor, query: Tensor, low_precision: bool = False) -> tuple[Tensor, Tensor]:
        hidden = self.hidden_layers(center, query, low_precision)
        n, size = center.shape[-1], self.n_r
        bias = self.last.bias.to(hidden.dtype)
        weight = self.last.weight.to(hidden.dtype)
        to_center = F.linear(hidden, weight[:n], bias[:n])
        to_query = F.linear(hidden, weight[size : size + n], bias[size : size + n])
        return to_center.to(center.dtype), to_query.to(center.dtype)

    def hidden_layers(self, center: Tensor, query: Tensor, low_precision: bool = False) -> Tensor:
        """What the last layer reads, ``(B, m, hidden_width)``.

        The instance norm is folded into the first layer, so normalised rows are never written out.
        """
        n, size = center.shape[-1], self.n_r
        variance, mean = torch.var_mean(center, -1, unbiased=False, keepdim=True)
        other_variance, other_mean = torch.var_mean(query[:, :1], -1, unbiased=False, keepdim=True)
        density = self.density(_statistics(mean, variance, other_mean, other_variance, query[..., :1], n / size))
        variance = (variance + other_variance) / 2 + ((mean - other_mean) / 2).square()
        mean = (mean + other_mean) / 2
        gain = self.scale * torch.rsqrt(variance + 1e-5)
        weight = torch.cat([self.first.weight[:, :n], self.first.weight[:, size : size + n]], dim=1)
        offset = (self.shift - mean * gain) * weight.sum(1) + self.first.bias + density
        kind = torch.bfloat16 if low_precision else center.dtype
        weight = weight.to(kind)
        raw = F.linear(center.to(kind), weight[:, :n]) + F.linear(query.to(kind), weight[:, n:])
        hidden = F.relu(raw.to(center.dtype) * gain + offset).to(kind)
        return F.relu(F.linear(hidden, self.hidden.weight.to(kind), self.hidden.bias.to(kind)))


def _statistics(
    mean: Tensor, variance: Tensor, query_mean: Tensor, query_variance: Tensor, to_query: Tensor, length: float
) -> Tensor:
    """``(B, m, 7)``: log mean distance and log spread of both rows, the node's distance to the query, in logs and in
    spreads, and the log of the sequence's length as a share of n_r. Tensors but ``to_query (B, m, 1)`` may have m = 1."""
    spread, query_spread = (v.clamp_min(1e-6).sqrt() for v in (variance, query_variance))
    query_mean, query_spread = query_mean.expand_as(mean), query_spread.expand_as(mean)
    distances = [(1 - value).clamp_min(1e-3).log() for value in (mean, query_mean, to_query)]
    shape = torch.full_like(mean, math.log(length))
    return torch.cat([*distances, spread.log(), query_spread.log(), (to_query - query_mean) / query_spread, shape], -1)
