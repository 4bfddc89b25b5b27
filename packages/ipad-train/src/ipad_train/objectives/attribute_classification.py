"""Naming values: stage 0, and the part of the later stages that keeps embeddings from falling together."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ipad_core import AttributeEmbedder
from ipad_train.blank_input import blank_input
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
        return cls(model, setup.data.value_attribute_ids, setup.layout.parts)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss of a batch, and the share of entries named rightly."""
        logits = self.model.logits(batch["images"]).float()[batch["image_index"]]  # (B, V)
        ids, features = self.gathered(batch, logits=logits)
        logits = own_values(features["logits"], ids["attribute_ids"], self.value_attribute_ids)
        accuracy = (logits.argmax(dim=1) == ids["value_ids"]).float().mean()
        return {"loss": F.cross_entropy(logits, ids["value_ids"]), "accuracy": accuracy.detach()}


class ValueNaming(nn.Module):
    """Cross-entropy of a linear layer that names an entry's value from its embedding. Not in the paper.

    Where all embeddings of an attribute are alike, Eq. 14 has next to no gradient: every triplet pays the margin, whatever
    the image shows. An attribute whose cue is small falls into that state within the first steps, since embeddings that
    agree pay less than ones that differ at random, and its attention then never finds the place. Cross-entropy has its
    largest gradient there. The layer is trained with the network and left behind.

    Args:
        embed_dim: d.
        value_attribute_ids: ``(V,)`` attribute id of every flat value id.
        average: ``triplets``: the mean over all entries. ``attributes``: the mean over the values of an attribute that the
            batch holds, then over the attributes; else nine photos without a scarf outweigh the one with.

    Shape:
        embeddings ``(B, d)``, of any length; attribute_ids, flat value_ids ``(B,)``; returns a scalar, at least float32.
    """

    def __init__(self, embed_dim: int, value_attribute_ids: torch.Tensor, average: str = "triplets") -> None:
        super().__init__()
        self.average = average
        self.read_out = nn.Linear(embed_dim, len(value_attribute_ids))
        self.register_buffer("value_attribute_ids", value_attribute_ids, persistent=False)

    def forward(self, embeddings: torch.Tensor, attribute_ids: torch.Tensor, value_ids: torch.Tensor) -> torch.Tensor:
        """The loss of a batch, averaged as ``average`` says."""
        logits = self.read_out(embeddings)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = own_values(logits, attribute_ids, self.value_attribute_ids)
        if self.average == "triplets":
            return F.cross_entropy(logits, value_ids)
        owners = self.value_attribute_ids
        counts = torch.bincount(value_ids, minlength=len(owners))
        present = torch.bincount(
            owners, weights=(counts > 0).to(logits.dtype)
        )  # values of each attribute in the batch
        shares = 1 / (counts[value_ids] * present[attribute_ids] * (present > 0).sum())
        return (shares * F.cross_entropy(logits, value_ids, reduction="none")).sum()


def own_values(logits: torch.Tensor, attribute_ids: torch.Tensor, value_attribute_ids: torch.Tensor) -> torch.Tensor:
    """``(B, V)`` logits, minus infinity for values of other attributes than the asked one."""
    return logits.masked_fill(value_attribute_ids[None] != attribute_ids[:, None], float("-inf"))


def naming_of(setup: StageSetup, model: AttributeEmbedder, branches: list[str]) -> dict[str, ValueNaming]:
    """A layer that names values for each branch, as wide as what it answers; none where ``losses.naming_weight`` is 0."""
    if not setup.config.losses.naming_weight:
        return {}
    was_training = model.training
    blank = blank_input(model)
    with torch.no_grad():
        output = model.eval()(blank, torch.zeros(1, dtype=torch.int64))
    model.train(was_training)
    owners, average = setup.data.value_attribute_ids, setup.config.losses.average
    return {branch: ValueNaming(getattr(output, branch).shape[1], owners, average) for branch in branches}
