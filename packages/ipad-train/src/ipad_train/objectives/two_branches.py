"""Stage 2 without clusters: both branches, and the contrast of foreground and background (Eq. 14, 15, 18)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ipad_core import IPAD, EmbeddingOutput
from ipad_core.losses import ForegroundBackgroundLoss
from ipad_train.config import LossConfig
from ipad_train.objectives.attribute_classification import ValueNaming, naming_of
from ipad_train.objectives.batch_layout import BatchLayout
from ipad_train.objectives.metric_learning import EntryTriplets
from ipad_train.objectives.objective import Batch, Objective, StageSetup


class TwoBranches(Objective):
    """Eq. 18: triplet losses of both branches, and Eq. 15 between them.

    This is what RPF trains in its second stage. With ``losses.contrast_weight=0`` it is ASEN++'s.

    Args:
        model: A network with both branches.
        layout: Of the batches; views of the anchors take part in every term.
        losses: Weights of the parts.
        train_spatial: Whether the first branch learns as well. If not, its terms are left out: they have no gradient.
        naming: By branch (``spatial``, ``semantic``), what names values from its embedding; empty for none.
    """

    network = "both branches"

    def __init__(
        self,
        model: IPAD,
        layout: BatchLayout,
        losses: LossConfig,
        train_spatial: bool,
        naming: Mapping[str, ValueNaming] | None = None,
    ) -> None:
        super().__init__(model, layout.parts)
        self.naming = nn.ModuleDict(naming or {})
        self.weights = losses
        self.train_spatial = train_spatial
        self.triplets = EntryTriplets(layout, losses, model.options["num_attributes"])
        self.contrast = ForegroundBackgroundLoss(losses.temperature, losses.background_weight)
        if not train_spatial:  # else the trunk's frozen stages stay so
            model.spatial.requires_grad_(False)

    @classmethod
    def of_stage(cls, setup: StageSetup, model: nn.Module) -> TwoBranches:
        naming = branch_naming(setup, model)
        return cls(model, setup.layout, setup.config.losses, trains_spatial(setup), naming)

    def train(self, mode: bool = True) -> TwoBranches:
        """A frozen first branch stays in evaluation mode, running statistics included."""
        super().train(mode)
        if not self.train_spatial:
            self.model.spatial.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted sum of the losses, and its parts before weighting."""
        output, weights = self._output(batch), self.weights
        contrasted = bool(weights.contrast_weight)
        ids, features = self.gathered(
            batch,
            semantic=output.semantic,
            spatial=output.spatial if self.train_spatial or contrasted else None,
            background=output.background if contrasted else None,
        )
        triplet_semantic, active = self.triplets(features["semantic"], ids)
        parts = {"triplet_semantic": (weights.semantic_weight, triplet_semantic)}
        if contrasted:
            three = (features[name] for name in ("spatial", "semantic", "background"))
            of_entries = (ids[name] for name in ("attribute_ids", "value_ids", "image_ids"))
            parts["contrast"] = weights.contrast_weight, self.contrast(*three, *of_entries)
        if self.train_spatial:
            parts["triplet_spatial"] = 1.0, self.triplets(features["spatial"], ids)[0]
        for branch, naming in self.naming.items():
            named = naming(features[branch], ids["attribute_ids"], ids["value_ids"])
            parts[f"naming_{branch}"] = weights.naming_weight, named
        parts |= self.further_parts(features, ids)
        loss = sum(weight * part for weight, part in parts.values())
        return {"loss": loss, **{name: part.detach() for name, (_, part) in parts.items()}, **active}

    def further_parts(self, features: dict[str, Tensor], ids: Batch) -> dict[str, tuple[float, Tensor]]:
        """Further losses of a subclass by name, each with its weight; features and ids are those of the whole batch."""
        return {}

    def _output(self, batch: Batch) -> EmbeddingOutput:
        crops, contrasted = batch.get("crops"), bool(self.weights.contrast_weight)
        if crops is not None and not self.train_spatial and not contrasted:  # nobody asks for the first branch
            semantic = self.model.semantic(crops, batch["attribute_ids"])
            return EmbeddingOutput(semantic, semantic=semantic)
        return self.model(
            batch["images"], batch["attribute_ids"], batch["image_index"], background=contrasted, crops=crops
        )


def branch_naming(setup: StageSetup, model: IPAD) -> dict[str, ValueNaming]:
    """What names values from the embeddings of the branches that learn."""
    branches = ["spatial", "semantic"] if trains_spatial(setup) else ["semantic"]
    return naming_of(setup, model, branches)


def trains_spatial(setup: StageSetup) -> bool:
    """Whether the first branch learns in this stage."""
    rate = setup.stage.spatial_learning_rate
    return rate is None or rate > 0
