"""Stage 2 of IPAD: both branches with their contrast, and then the cluster centers (Eq. 14-16, 18-20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core import IPAD
from ipad_train.config import LossConfig
from ipad_train.objectives.attribute_classification import ValueNaming
from ipad_train.objectives.batch_layout import BatchLayout
from ipad_train.objectives.clusters import BranchClusters
from ipad_train.objectives.objective import Batch, StageSetup
from ipad_train.objectives.two_branches import TwoBranches, branch_naming, trains_spatial


class AttributeDiverging(TwoBranches):
    """Eq. 18, then Eq. 20 once the queues of the momentum features are filled.

    Args:
        model: The ipad model with both branches.
        layout: Of the batches. Views of the anchors take part in every term, and are not queued: three of five places would
            be one image's.
        losses: Weights of the parts.
        clusters: Queues of the branches, or None to leave Eq. 10, 11, 16 out. They are the objective's ``memory``.
        train_spatial: Whether IP-SP learns as well.
        naming: As in :class:`TwoBranches`.
    """

    def __init__(
        self,
        model: IPAD,
        layout: BatchLayout,
        losses: LossConfig,
        clusters: BranchClusters | None,
        train_spatial: bool,
        naming: Mapping[str, ValueNaming] | None = None,
    ) -> None:
        super().__init__(model, layout, losses, train_spatial, naming)
        self.stacked = layout.stacked
        self._crops: list[Any] = []  # of the micro-batches of the step in progress
        if clusters is None:
            return
        self.remember(clusters)
        if not train_spatial:  # IP-SP is its own momentum copy: what IP-SE reads is what its momentum copy will read
            model.semantic.register_forward_pre_hook(self._keep_crops)

    @classmethod
    def of_stage(cls, setup: StageSetup, model: nn.Module) -> AttributeDiverging:
        config, train_spatial = setup.config, trains_spatial(setup)
        clusters = None
        if config.clusters.enabled:
            clusters = BranchClusters(
                model,
                config.clusters,
                setup.data.value_counts,
                setup.data.value_attribute_ids,
                config.losses.margin,
                setup.stage.steps,
                train_spatial,
            )
        naming = branch_naming(setup, model)
        return cls(model, setup.layout, config.losses, clusters, train_spatial, naming)

    @property
    def clusters(self) -> BranchClusters | None:
        """The memory, by its name here."""
        return self.memory

    def announcements(self) -> list[str]:
        """The size of the queues."""
        if self.clusters is None:
            return []
        return [
            f"queues: {len(self.clusters.occurring)} values x {self.clusters.length} features per branch, "
            f"{self.clusters.nbytes / 2**20:.1f} MiB preallocated"
        ]

    def state_numbers(self) -> dict[str, float]:
        """``queues_filled``: the share of values with training data whose queue is full, of each branch."""
        if self.clusters is None:
            return {}
        return {f"queues_filled/{name}": self.clusters.filled(name) for name in self.clusters.queues}

    def further_parts(self, features: dict[str, Tensor], ids: Batch) -> dict[str, tuple[float, Tensor]]:
        """Eq. 19 of the branches that learn, from the step on in which the clusters have started."""
        if self.clusters is None or not self.clusters.started:
            return {}
        weights = self.weights
        parts = {"centers_semantic": (weights.semantic_center_weight, self._centers("semantic", features, ids))}
        if self.train_spatial:
            parts["centers_spatial"] = weights.spatial_center_weight, self._centers("spatial", features, ids)
        return parts

    def _centers(self, branch: str, features: dict[str, Tensor], ids: Batch) -> Tensor:
        """Eq. 19: in a triplet batch the sum of three means; views count among the anchors. In a dense batch the mean."""
        if not self.stacked:
            return self.clusters.loss(branch, features[branch], ids["value_ids"], ids["image_ids"])
        tensors = features[branch], ids["value_ids"], ids["image_ids"]
        anchors, positives, negatives, *views = zip(*(tensor.chunk(self.parts) for tensor in tensors), strict=True)
        all_anchors = tuple(torch.cat(tensors) for tensors in zip(anchors, *views, strict=True))
        return sum(self.clusters.loss(branch, *part) for part in (all_anchors, positives, negatives))

    def _keep_crops(self, branch: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self.training and torch.is_grad_enabled():
            self._crops.append(inputs[0])

    def forget_batches(self) -> None:
        """The crops of batches that no step follows."""
        self._crops = []

    @torch.no_grad()
    def after_step(self, batches: Sequence[Batch], step: int) -> list[str]:
        """Move the momentum encoder, queue its features of the batches, refresh the centers when due."""
        crops, self._crops = self._crops or [None] * len(batches), []
        if self.clusters is None:
            return []
        self.clusters.follow(self.model)
        for batch, cut in zip(batches, crops, strict=True):
            self.clusters.enqueue(self._without_views(batch, cut), 3 if self.stacked else 1)
        return self.clusters.step_done(step)

    def _without_views(self, batch: Batch, crops: Any) -> Batch:
        """The batch without the views of its anchors, which come last, and with the crops that IP-SE read."""
        entries = len(batch["attribute_ids"]) * (3 if self.stacked else 1) // self.parts
        added = len(batch["attribute_ids"]) - entries  # each view is an image of its own
        images = batch["images"]
        kept = {name: batch[name][:entries] for name in ("attribute_ids", "value_ids", "image_index")}
        if crops is not None:
            kept["crops"] = crops[:entries] if isinstance(crops, Tensor) else [stage[:entries] for stage in crops]
        return {**kept, "images": images[: len(images) - added] if added else images}
