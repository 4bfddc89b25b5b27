"""Weights and constants of the losses, and the clusters."""

from __future__ import annotations

from dataclasses import dataclass

from ipad_train.config.options import one_of, option, require

QUEUE_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of Eq. 14 to 20."""

    margin: float = option(0.2, "[m] of the triplet and the cluster center loss, cosine units")
    average: str = option(
        "triplets", "dense batches: mean over all active triplets, or over `attributes` of each one's mean"
    )
    naming_weight: float = option(
        0.0, "cross-entropy of naming the value from the embedding; not in the paper, see ValueNaming"
    )
    temperature: float = option(0.07, "[tau] of Eq. 15")
    background_weight: float = option(12.0, "[epsilon] of background negatives in Eq. 15")
    semantic_weight: float = option(0.1, "[lambda_1] of the semantic branch's triplet loss")
    contrast_weight: float = option(
        0.04, "[lambda_2] of the foreground-background loss; 0 leaves the branches independent"
    )
    spatial_center_weight: float = option(1.0, "[xi_1] of IP-SP's cluster center loss")
    semantic_center_weight: float = option(1.0, "[xi_2] of IP-SE's cluster center loss")

    def __post_init__(self) -> None:
        require(0 <= self.margin <= 2, "losses.margin", self.margin, "within [0, 2], cosine units")
        require(self.temperature > 0, "losses.temperature", self.temperature, "positive")
        for name in ("naming", "background", "semantic", "contrast", "spatial_center", "semantic_center"):
            weight = getattr(self, f"{name}_weight")
            require(weight >= 0, f"losses.{name}_weight", weight, "zero or more")
        average = self.average
        require(average in ("triplets", "attributes"), "losses.average", average, "'triplets' or 'attributes'")


@dataclass(frozen=True)
class ClusterConfig:
    """Momentum encoder, queues and centers (Eq. 10, 11, 16)."""

    enabled: bool = option(True, "whether there are clusters at all; without them stage 2 is Eq. 18 to its end")
    momentum: float = option(0.995, "[mu] of the momentum encoder")
    queue_length: int | None = option(None, "[n_q]; null: min(1000, training images per value / 8)")
    queue_dtype: str = option("float32", "of the queued features; bfloat16 and float16 take half the memory")
    refresh_every: int = option(50, "[n_b] steps between two recomputations of the centers")
    filled_share: float = option(
        0.9, "share of values with training data whose queue must be full before the loss starts"
    )
    start: float = option(0.3, "not before this share of the stage, so that the features have settled")
    start_by: float = option(0.6, "from here on with the centers there are: a rare value may never fill its queue")

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, "clusters.momentum", self.momentum, "within [0, 1)")
        length = self.queue_length
        require(length is None or length > 0, "clusters.queue_length", length, "positive or null")
        require(self.queue_dtype in QUEUE_DTYPES, "clusters.queue_dtype", self.queue_dtype, one_of(QUEUE_DTYPES))
        require(0 <= self.filled_share <= 1, "clusters.filled_share", self.filled_share, "within [0, 1]")
        require(self.refresh_every > 0, "clusters.refresh_every", self.refresh_every, "positive")
        require(0 <= self.start <= self.start_by <= 1, "clusters.start", self.start, "within [0, clusters.start_by]")
