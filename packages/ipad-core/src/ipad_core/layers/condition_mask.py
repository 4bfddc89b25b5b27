"""CSN's masks: which dimensions of a shared embedding an attribute looks at."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConditionMask(nn.Module):
    """Multiplies an embedding with a learned non-negative mask per attribute.

    Args:
        num_attributes: A.
        dim: Width of the embedding.

    References:
        Veit et al. 2017, Conditional Similarity Networks: masks start around 0.9 with a spread of 0.7, ReLU keeps them
        non-negative.
    """

    def __init__(self, num_attributes: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_attributes, dim)
        nn.init.normal_(self.table.weight, mean=0.9, std=0.7)

    def forward(self, embeddings: Tensor, attribute_ids: Tensor) -> Tensor:
        return embeddings * torch.relu(self.table(attribute_ids))
