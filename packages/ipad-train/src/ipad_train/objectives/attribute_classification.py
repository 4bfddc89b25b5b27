"""Stage 0: the trunk learns by naming the value of every labelled attribute."""

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
        other = self.value_attribute_ids[None] != batch["attribute_ids"][:, None]
        logits = logits.masked_fill(other, float("-inf"))
        accuracy = (logits.argmax(dim=1) == batch["value_ids"]).float().mean()
        return {"loss": F.cross_entropy(logits, batch["value_ids"]), "accuracy": accuracy.detach()}

    def after_step(self, batch: dict[str, torch.Tensor], step: int) -> list[str]:
        """Nothing to do between steps."""
        return []
