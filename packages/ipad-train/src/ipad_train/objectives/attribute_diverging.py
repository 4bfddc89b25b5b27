"""Stage 2: both branches, the contrast of foreground and background, and the cluster centers (Eq. 14-16, 18-20)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ipad_core import IPAD, EmbeddingOutput
from ipad_core.losses import ForegroundBackgroundLoss
from ipad_train.config import LossConfig
from ipad_train.objectives.attribute_classification import ValueNaming
from ipad_train.objectives.clusters import BranchClusters
from ipad_train.objectives.metric_learning import EntryTriplets


class AttributeDiverging(nn.Module):
    """Eq. 18, then Eq. 20 once the queues of the momentum features are filled.

    Args:
        model: The ipad model with both branches.
        sampler: Kind of batch, as in :class:`MetricLearning`.
        losses: Weights of the parts.
        clusters: Queues of the branches, or None to leave Eq. 10, 11, 16 out.
        train_spatial: Whether IP-SP learns as well. If not, its terms are left out: they have no gradient.
        anchor_views: Augmented views of each anchor that a triplet batch holds; they take part in every term.
        naming: By branch (``spatial``, ``semantic``), what names values from its embedding; empty for none.
    """

    def __init__(
        self, model: IPAD, sampler: str, losses: LossConfig, clusters: BranchClusters | None, train_spatial: bool,
        anchor_views: int = 0, naming: Mapping[str, ValueNaming] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model = model
        self.naming = nn.ModuleDict(naming or {})
        self.weights = losses
        self.train_spatial = train_spatial
        self.triplets = EntryTriplets(
            sampler, losses.margin, anchor_views, losses.average, model.options["num_attributes"]
        )
        self.contrast = ForegroundBackgroundLoss(losses.temperature, losses.background_weight)
        self.clusters = clusters
        self._boxes: torch.Tensor | None = None  # of the step in progress
        if not train_spatial:  # else the trunk's frozen stages stay so
            model.spatial.requires_grad_(False)

    def train(self, mode: bool = True) -> AttributeDiverging:
        """A frozen IP-SP stays in evaluation mode, running statistics included."""
        super().train(mode)
        if not self.train_spatial:
            self.model.spatial.eval()
        return self

    def announcements(self) -> list[str]:
        """What the user should know when the stage starts."""
        if self.clusters is None:
            return []
        return [
            f"queues: {len(self.clusters.occurring)} values x {self.clusters.length} features per branch, "
            f"{self.clusters.nbytes / 2**20:.1f} MiB preallocated"
        ]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weighted sum of the losses, and its parts before weighting."""
        output, weights = self._output(batch), self.weights
        ids = (batch["attribute_ids"], batch["value_ids"])
        triplet_semantic, active = self.triplets(output.semantic, batch)
        parts = {"triplet_semantic": triplet_semantic}
        loss = weights.semantic_weight * triplet_semantic
        if weights.contrast_weight:
            parts["contrast"] = self.contrast(output.spatial, output.semantic, output.background, *ids)
            loss = loss + weights.contrast_weight * parts["contrast"]
        if self.train_spatial:
            parts["triplet_spatial"], _ = self.triplets(output.spatial, batch)
            loss = loss + parts["triplet_spatial"]
        for branch, naming in self.naming.items():
            parts[f"naming_{branch}"] = naming(getattr(output, branch), *ids)
            loss = loss + weights.naming_weight * parts[f"naming_{branch}"]
        if self.clusters is not None and self.clusters.started:
            parts["centers_semantic"] = self.clusters.loss("semantic", output.semantic, batch)
            loss = loss + weights.semantic_center_weight * parts["centers_semantic"]
            if self.train_spatial:
                parts["centers_spatial"] = self.clusters.loss("spatial", output.spatial, batch)
                loss = loss + weights.spatial_center_weight * parts["centers_spatial"]
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **active}

    def _output(self, batch: dict[str, Any]) -> EmbeddingOutput:
        crops, contrasted = batch.get("crops"), bool(self.weights.contrast_weight)
        if crops is not None and not self.train_spatial and not contrasted:  # nobody asks for IP-SP
            semantic = self.model.semantic(crops, batch["attribute_ids"])
            return EmbeddingOutput(semantic, semantic=semantic)
        output = self.model(
            batch["images"], batch["attribute_ids"], batch["image_index"], background=contrasted, crops=crops
        )
        self._boxes = output.boxes
        return output

    @torch.no_grad()
    def after_step(self, batch: dict[str, torch.Tensor], step: int) -> list[str]:
        """Move the momentum encoder, queue its features of the batch, refresh the centers when due."""
        if self.clusters is None:
            return []
        crops = batch.get("crops")
        if crops is None and not self.train_spatial:  # IP-SP is its own momentum copy: the step's boxes serve both
            crops = self.model.crops(batch["images"], self._boxes, batch["image_index"])
        return self.clusters.after_step(self.model, batch, crops, step)
