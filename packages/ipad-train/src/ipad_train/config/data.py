"""Which dataset, and which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipad_train.config.options import option, require


@dataclass(frozen=True)
class DataConfig:
    """Which dataset, and how its images reach the model."""

    name: str = option("rendered", "a name of ipad_data.list_datasets()")
    dir: str | None = option(None, "folder of the dataset's files; the rendered dataset needs none")
    options: dict[str, Any] = option(dict, "further arguments of ipad_data.load")
    detail_size: int = option(128, "side of the decoded images, px; the second branch's crops are cut from these")
    num_workers: int = option(2, "decoding processes per training process; the batches do not depend on it")
    eval_batch_size: int = option(
        64, "images of a batch where nothing is trained: evaluation, embedding, frozen trunks"
    )
    on_error: str = option("raise", "an unreadable image: raise, or skip (and count)")
    flip: float = option(0.5, "probability of a horizontal flip, per image")
    augmentation: dict[str, Any] = option(dict, "further arguments of ipad_data's BatchAugmentation")
    vectors: str | None = option(None, "embeddings of your own instead of images, .npy or .safetensors")
    keep_maps: bool = option(True, "a trunk that is frozen whole runs once per image; its maps are read from files")
    maps_dir: str | None = option(None, "where those files lie, for several runs to share; null: maps in output_dir")
    anchor_views: int = option(
        0, "triplet batches: augmented views of each anchor, as further anchors (public code: 2)"
    )
    anchor_augmentation: dict[str, Any] = option(dict, "arguments of the views' BatchAugmentation")

    def __post_init__(self) -> None:
        require(self.detail_size > 0, "data.detail_size", self.detail_size, "positive")
        require(self.num_workers >= 0, "data.num_workers", self.num_workers, "zero or more")
        require(self.eval_batch_size > 0, "data.eval_batch_size", self.eval_batch_size, "positive")
        require(self.on_error in ("raise", "skip"), "data.on_error", self.on_error, "'raise' or 'skip'")
        require(0 <= self.flip <= 1, "data.flip", self.flip, "within [0, 1]")
        require(self.anchor_views >= 0, "data.anchor_views", self.anchor_views, "zero or more")


@dataclass(frozen=True)
class ModelConfig:
    """Which network: a name of ipad_core.list_models() and the arguments it takes."""

    name: str = option("ipad_tiny", "a name of ipad_core.list_models()")
    options: dict[str, Any] = option(dict, "arguments of that network, such as embed_dim and trunk")
    trunk_weights: str | None = option(None, "a saved model whose trunk this one starts from; replaces stage 0")
    init: str | None = option(
        None, "a run, a saved model or a hub repository that the whole network starts from; replaces stage 0"
    )

    def __post_init__(self) -> None:
        if self.init and self.trunk_weights:
            raise ValueError(
                f"model.init={self.init} holds a trunk, and model.trunk_weights={self.trunk_weights} names another; "
                "leave one of them out"
            )
