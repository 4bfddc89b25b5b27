"""Stage 1, and the whole training of one-branch methods: the triplet loss of Eq. 14 on one embedding."""

from __future__ import annotations

import torch
from torch import nn

from ipad_core.losses import BatchAllTripletLoss, TripletLoss
from ipad_train.collapse import spread
from ipad_train.objectives.attribute_classification import ValueNaming, naming_of
from ipad_train.objectives.objective import Batch, Objective, StageSetup
from ipad_train.step_numbers import ACTIVE


class MetricLearning(Objective):
    """Triplet loss on a model's embedding (IP-SP's for the ipad model).

    Args:
        model: Any network of ipad-core.
        sampler: ``triplet``: a batch stacks anchors, positives, negatives (Eq. 14 as written); ``dense``: every
            triplet that the labelled entries of the batch form within an attribute.
        margin: Required similarity gap, cosine units.
        anchor_views: Augmented views of each anchor that a triplet batch holds.
        average: Of dense batches, see :class:`ipad_core.losses.BatchAllTripletLoss`.
        naming: Names values from the embedding, or None.
        naming_weight: Of its cross-entropy, beside the triplet loss's 1.
    """

    network = "first branch"

    def __init__(
        self,
        model: nn.Module,
        sampler: str,
        margin: float,
        anchor_views: int = 0,
        average: str = "triplets",
        naming: ValueNaming | None = None,
        naming_weight: float = 0.0,
    ) -> None:
        super().__init__(model, 3 + anchor_views if sampler == "triplet" else 1)
        self.two_branches = getattr(model, "spatial", None) is not None
        self.triplets = EntryTriplets(sampler, margin, anchor_views, average, model.options["num_attributes"])
        self.naming, self.naming_weight = naming, naming_weight

    @classmethod
    def of_stage(cls, setup: StageSetup, model: nn.Module) -> MetricLearning:
        losses = setup.config.losses
        branch = "spatial" if getattr(model, "spatial", None) is not None else "embedding"
        naming = naming_of(setup, model, [branch]).get(branch)
        views = setup.anchor_views
        return cls(model, setup.stage.sampler, losses.margin, views, losses.average, naming, losses.naming_weight)

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
    """Eq. 14 over a batch of either kind. Each view of an anchor forms a triplet with its positive and negative."""

    def __init__(self, sampler: str, margin: float, anchor_views: int, average: str, num_attributes: int) -> None:
        super().__init__()
        self.anchor_views, self.num_attributes = anchor_views, num_attributes
        self.stacked = sampler == "triplet"
        self.loss = TripletLoss(margin) if self.stacked else BatchAllTripletLoss(margin, average)

    def forward(
        self, embeddings: torch.Tensor, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Scalar loss of ``(B, D)`` embeddings; the share of active triplets of each attribute, and their spread.

        The shares are named ``active/<attribute id>``; an attribute without a triplet in the batch has NaN. An attribute
        that stays near the share it began with has not found what tells its values apart. For the spread see
        :func:`ipad_train.collapse.spread`.
        """
        if self.stacked:
            anchors, positives, negatives, *views = embeddings.chunk(3 + self.anchor_views)
            times = (1 + self.anchor_views, 1)
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
