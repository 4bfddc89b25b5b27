"""Naming values: stage 0, and the part of the later stages that keeps embeddings from falling together."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class AttributeClassification(nn.Module):
    """Cross-entropy over the values of the asked attribute, mean over the entries of a batch.

    Args:
        model: An ``attribute_classifier`` of ipad-core: ``model.logits(images)`` gives ``(N, V)`` over all values.
        value_attribute_ids: ``(V,)`` attribute id of every flat value id.
    """

    def __init__(self, model: nn.Module, value_attribute_ids: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("value_attribute_ids", value_attribute_ids, persistent=False)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss of a batch, and the share of entries named rightly."""
        logits = self.model.logits(batch["images"]).float()[batch["image_index"]]  # (B, V)
        logits = own_values(logits, batch["attribute_ids"], self.value_attribute_ids)
        accuracy = (logits.argmax(dim=1) == batch["value_ids"]).float().mean()
        return {"loss": F.cross_entropy(logits, batch["value_ids"]), "accuracy": accuracy.detach()}

    def after_step(self, batch: dict[str, torch.Tensor], step: int) -> list[str]:
        """Nothing to do between steps."""
        return []


class ValueNaming(nn.Module):
    """Cross-entropy of a linear layer that names an entry's value from its embedding. Not in the paper.

    Where all embeddings of an attribute are alike, Eq. 14 has next to no gradient: every triplet pays the margin, whatever
    the image shows. An attribute whose cue is small falls into that state within the first steps, since embeddings that
    agree pay less than ones that differ at random, and its attention then never finds the place. Cross-entropy has its
    largest gradient there. The layer is trained with the network and left behind.

    Args:
        embed_dim: d.
        value_attribute_ids: ``(V,)`` attribute id of every flat value id.

    Shape:
        embeddings ``(B, d)``, of any length; attribute_ids, flat value_ids ``(B,)``; returns a scalar, at least float32.
    """

    def __init__(self, embed_dim: int, value_attribute_ids: torch.Tensor) -> None:
        super().__init__()
        self.read_out = nn.Linear(embed_dim, len(value_attribute_ids))
        self.register_buffer("value_attribute_ids", value_attribute_ids, persistent=False)

    def forward(self, embeddings: torch.Tensor, attribute_ids: torch.Tensor, value_ids: torch.Tensor) -> torch.Tensor:
        """Mean over the entries."""
        logits = self.read_out(embeddings)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(own_values(logits, attribute_ids, self.value_attribute_ids), value_ids)


def own_values(logits: torch.Tensor, attribute_ids: torch.Tensor, value_attribute_ids: torch.Tensor) -> torch.Tensor:
    """``(B, V)`` logits, minus infinity for values of other attributes than the asked one."""
    return logits.masked_fill(value_attribute_ids[None] != attribute_ids[:, None], float("-inf"))
