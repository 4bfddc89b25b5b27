"""Stage 0: the trunk learns by naming the value of every labelled attribute."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ipad_train.objectives.objective import Batch, Objective, StageSetup


class AttributeClassification(Objective):
    """Cross-entropy over the values of the asked attribute, mean over the entries of the whole batch.

    Args:
        model: An ``attribute_classifier`` of ipad-core: ``model.logits(images)`` gives ``(N, V)`` over all values.
        value_attribute_ids: ``(V,)`` attribute id of every flat value id.
        parts: As in :class:`Objective`.
    """

    network = "classifier"

    def __init__(self, model: nn.Module, value_attribute_ids: torch.Tensor, parts: int = 1) -> None:
        super().__init__(model, parts)
        self.register_buffer("value_attribute_ids", value_attribute_ids, persistent=False)

    @classmethod
    def of_stage(cls, setup: StageSetup, model: nn.Module) -> AttributeClassification:
        return cls(model, setup.data.value_attribute_ids, setup.parts)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss of a batch, and the share of entries named rightly."""
        logits = self.model.logits(batch["images"]).float()[batch["image_index"]]  # (B, V)
        ids, features = self.gathered(batch, logits=logits)
        other = self.value_attribute_ids[None] != ids["attribute_ids"][:, None]
        logits = features["logits"].masked_fill(other, float("-inf"))
        accuracy = (logits.argmax(dim=1) == ids["value_ids"]).float().mean()
        return {"loss": F.cross_entropy(logits, ids["value_ids"]), "accuracy": accuracy.detach()}
