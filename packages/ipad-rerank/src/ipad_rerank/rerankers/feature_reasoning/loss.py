"""The Feature Reasoning contrastive loss (Wan et al. 2025, Eq. 17)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ipad_rerank.search.vectors import number_in, one_of


class FeatureReasoningLoss(nn.Module):
    """InfoNCE over the refined similarities of a sequence, whose node 0 is the query.

    Mean over pairs (i, j) with the query's label, i != j, of
    ``-log(exp(s_ij / t) / (exp(s_ij / t) + sum of exp(s_ik / t) over k with another label))``, t = temperature.

    Args:
        temperature: Above 0 (paper symbol tau).
        rows: "query" takes i = 0 only (trains better, as measured); "all" is the paper's sum over all i.

    Shape:
        similarities ``(B, n, n)``, or ``(B, n)`` or ``(B, 1, n)`` (the query's row) with ``rows="query"``;
        is_positive ``(B, n)`` bool, True where a node has the query's label (column 0 is not read).
        Returns a scalar; a sequence without positives counts nothing, and without any pair the loss is 0.

    Raises:
        ValueError: temperature not above 0, rows unknown, shapes do not fit.

    References:
        Eq. 17. Deviations: the mean instead of the sum, and j = i is left out (its similarity is always 1).
    """

    def __init__(self, temperature: float = 0.07, rows: str = "query") -> None:
        super().__init__()
        self.temperature = number_in("(0, inf)", temperature, "temperature")
        self.rows = one_of(("query", "all"), rows, "rows")

    def forward(self, similarities: Tensor, is_positive: Tensor) -> Tensor:
        if similarities.ndim == 2:
            similarities = similarities[:, None]
        batch, rows, n = similarities.shape if similarities.ndim == 3 else (0, 0, 0)
        if tuple(is_positive.shape) != (batch, n) or (self.rows == "all" and rows != n):
            raise ValueError(
                f'similarities must be (B, n, n) or, with rows="query", (B, n), and is_positive (B, n); '
                f"got {tuple(similarities.shape)} and {tuple(is_positive.shape)}"
            )
        if self.rows == "query":
            similarities = similarities[:, :1]
        logits = similarities / self.temperature
        same = is_positive.clone()
        same[:, 0] = True
        negatives = torch.where(same[:, None], float("-inf"), logits).logsumexp(-1, keepdim=True)
        losses = torch.nn.functional.softplus(negatives - logits)  # -log(e^p / (e^p + sum e^n))
        pair = same[:, None] & same[:, : logits.shape[1], None]
        pair = pair & ~torch.eye(n, dtype=torch.bool, device=pair.device)[: logits.shape[1]]
        return torch.where(pair, losses, 0.0).sum() / pair.sum().clamp_min(1)
