"""Stage 1, and the whole training of one-branch methods: the triplet loss of Eq. 14 on one embedding."""

from __future__ import annotations

import torch
from torch import nn

from ipad_core.losses import BatchAllTripletLoss, TripletLoss
from ipad_train.collapse import spread
from ipad_train.config import LossConfig
from ipad_train.objectives.attribute_classification import ValueNaming, naming_of
from ipad_train.objectives.batch_layout import BatchLayout
from ipad_train.objectives.objective import Batch, Objective, StageSetup
from ipad_train.step_numbers import ACTIVE


class MetricLearning(Objective):
    """Triplet loss on a model's embedding (IP-SP's for the ipad model).

    Args:
        model: Any network of ipad-core.
        layout: Of the batches, see :class:`EntryTriplets`.
        losses: Margin, how dense batches are averaged, and the weight of naming beside the triplet loss's 1.
        naming: Names values from the embedding, or None.
    """

    network = "first branch"

    def __init__(
        self, model: nn.Module, layout: BatchLayout, losses: LossConfig, naming: ValueNaming | None = None
    ) -> None:
        super().__init__(model, layout.parts)
        self.two_branches = "spatial" in model.branches
        self.triplets = EntryTriplets(layout, losses, model.options["num_attributes"])
        self.naming, self.naming_weight = naming, losses.naming_weight

    @classmethod
    def of_stage(cls, setup: StageSetup, model: nn.Module) -> MetricLearning:
        branch = "spatial" if "spatial" in model.branches else "embedding"
        return cls(model, setup.layout, setup.config.losses, naming_of(setup, model, [branch]).get(branch))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss of a batch."""
        options = {"branches": "spatial", "background": False} if self.two_branches else {}
        output = self.model(batch["images"], batch["attribute_ids"], batch["image_index"], **options)
        embedding = output.spatial if self.two_branches else output.embedding
        ids, features = self.gathered(batch, embedding=embedding)
        loss, active = self.triplets(features["embedding"], ids)
        if self.naming is None:
            return {"loss": loss, **active}
        named = self.naming(features["embedding"], ids["attribute_ids"], ids["value_ids"])
        parts = {"triplet": loss.detach(), "naming": named.detach()}
        return {"loss": loss + self.naming_weight * named, **parts, **active}


class EntryTriplets(nn.Module):
    """Eq. 14 over a batch of either kind.

    A batch of triplets is Eq. 14 as written; each view of an anchor forms a triplet with its positive and negative. Of other
    batches every triplet counts that the labelled entries form within an attribute.

    Args:
        layout: Of the batches.
        losses: Margin, in cosine units; and of batches without triplets the average, see
            :class:`ipad_core.losses.BatchAllTripletLoss`.
        num_attributes: A.
    """

    def __init__(self, layout: BatchLayout, losses: LossConfig, num_attributes: int) -> None:
        super().__init__()
        self.layout, self.num_attributes = layout, num_attributes
        margin = losses.margin
        self.loss = TripletLoss(margin) if layout.stacked else BatchAllTripletLoss(margin, losses.average)

    def forward(
        self, embeddings: torch.Tensor, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Scalar loss of ``(B, D)`` embeddings; the share of active triplets of each attribute, and their spread.

        The shares are named ``active/<attribute id>``; an attribute without a triplet in the batch has NaN. An attribute
        that stays near the share it began with has not found what tells its values apart. For the spread see
        :func:`ipad_train.collapse.spread`.
        """
        if self.layout.stacked:
            anchors, positives, negatives, *views = embeddings.chunk(self.layout.parts)
            times = (1 + len(views), 1)
            anchors, positives, negatives = (
                torch.cat([anchors, *views]),
                positives.repeat(times),
                negatives.repeat(times),
            )
            loss = self.loss(anchors, positives, negatives)
            with torch.no_grad():
                similarity = nn.functional.cosine_similarity
                gap = similarity(anchors, positives) - similarity(anchors, negatives)
                owner = batch["attribute_ids"][: len(gap) // times[0]].repeat(times[0])
                ones = torch.ones_like(gap)
                triplets = ones.new_zeros(self.num_attributes).index_add(0, owner, ones)
                active = ones.new_zeros(self.num_attributes).index_add(0, owner, (gap < self.loss.margin).to(ones))
        else:
            sums, active, triplets = self.loss.by_attribute(
                embeddings, batch["attribute_ids"], batch["value_ids"], batch["image_ids"], self.num_attributes
            )
            loss = self.loss.reduce(sums, active)
        shares = (active / triplets).detach().float()
        told = {f"{ACTIVE}{attribute}": share for attribute, share in enumerate(shares)}
        return loss, told | spread(embeddings, batch["attribute_ids"], self.num_attributes)
