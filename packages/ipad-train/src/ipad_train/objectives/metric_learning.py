"""Stage 1, and the whole training of one-branch methods: the triplet loss of Eq. 14 on one embedding."""

from __future__ import annotations

import torch
from torch import nn

from ipad_core.losses import BatchAllTripletLoss, TripletLoss


class MetricLearning(nn.Module):
    """Triplet loss on a model's embedding (IP-SP's for the ipad model).

    Args:
        model: Any network of ipad-core.
        sampler: ``triplet``: a batch stacks anchors, positives, negatives (Eq. 14 as written); ``dense``: every
            triplet that the labelled entries of the batch form within an attribute.
        margin: Required similarity gap, cosine units.
        anchor_views: Augmented views of each anchor that a triplet batch holds.
    """

    def __init__(self, model: nn.Module, sampler: str, margin: float, anchor_views: int = 0) -> None:
        super().__init__()
        self.model = model
        self.two_branches = hasattr(model, "spatial")
        self.triplets = EntryTriplets(sampler, margin, anchor_views)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss of a batch."""
        options = {"branches": "spatial", "background": False} if self.two_branches else {}
        output = self.model(batch["images"], batch["attribute_ids"], batch["image_index"], **options)
        embedding = output.spatial if self.two_branches else output.embedding
        return {"loss": self.triplets(embedding, batch)}

    def after_step(self, batch: dict[str, torch.Tensor], step: int) -> list[str]:
        """Nothing to do between steps."""
        return []


class EntryTriplets(nn.Module):
    """Eq. 14 over a batch of either kind. Each view of an anchor forms a triplet with its positive and negative."""

    def __init__(self, sampler: str, margin: float, anchor_views: int = 0) -> None:
        super().__init__()
        self.anchor_views = anchor_views
        self.stacked = sampler == "triplet"
        self.loss = TripletLoss(margin) if self.stacked else BatchAllTripletLoss(margin)

    def forward(self, embeddings: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar loss of ``(B, D)`` embeddings."""
        if self.stacked:
            anchors, positives, negatives, *views = embeddings.chunk(3 + self.anchor_views)
            times = (1 + self.anchor_views, 1)
            return self.loss(torch.cat([anchors, *views]), positives.repeat(times), negatives.repeat(times))
        return self.loss(embeddings, batch["attribute_ids"], batch["value_ids"], batch["image_ids"])
