"""A whole run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ipad_train.config.data import DataConfig, ModelConfig
from ipad_train.config.loop import LoopConfig, RerankConfig, ValuesConfig
from ipad_train.config.losses import ClusterConfig, LossConfig
from ipad_train.config.options import one_of, option, require
from ipad_train.config.stage import STAGE_NAMES, WHEN, StageConfig


@dataclass(frozen=True)
class RunConfig:
    """A whole run: data, network, three stages, losses, clusters, probabilities of values, re-ranking, loop."""

    output_dir: str = option("runs/ipad", "folder of everything that the run writes")
    seed: int = option(0, "of weights, batches and augmentation")
    data: DataConfig = option(DataConfig, "which dataset, and how its images reach the model")
    model: ModelConfig = option(ModelConfig, "which network, and what it starts from")
    stage0: StageConfig = option(StageConfig, "the trunk learns by attribute classification")
    stage1: StageConfig = option(StageConfig, "IP-SP alone, or the whole of a one-branch method")
    stage2: StageConfig = option(StageConfig, "both branches")
    losses: LossConfig = option(LossConfig, "weights and constants of Eq. 14 to 20")
    clusters: ClusterConfig = option(ClusterConfig, "momentum encoder, queues and centers")
    values: ValuesConfig = option(ValuesConfig, "probabilities of values in the delivered embedding")
    rerank: RerankConfig = option(RerankConfig, "Feature Reasoning, fitted when a run ends, and query expansion")
    loop: LoopConfig = option(LoopConfig, "what the training loop does besides stepping")

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "zero or more")
        require(bool(self.output_dir), "output_dir", self.output_dir, "the name of a folder")
        for name, choices in WHEN.items():
            when = getattr(self, name).when
            require(when in choices, f"{name}.when", when, one_of(choices))
        dense = [name for name, stage in self.stages() if name != "stage0" and stage.sampler != "triplet"]
        if self.data.anchor_views and dense:
            raise ValueError(
                f"data.anchor_views must be 0 for dense batches, which have no anchors, got {self.data.anchor_views}; "
                f"or {dense[0]}.sampler must be 'triplet'"
            )

    def stages(self) -> list[tuple[str, StageConfig]]:
        """The stages that are trained, in order."""
        named = [(name, getattr(self, name)) for name in STAGE_NAMES]
        return [(name, stage) for name, stage in named if stage.is_trained]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionaries, as in a YAML file."""
        return dataclasses.asdict(self)
