"""The configuration of a run: frozen, validated dataclasses.

`config_files.py` reads them from YAML presets and command-line overrides. Symbols in brackets are the paper's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

STAGE_NAMES = ("stage0", "stage1", "stage2")
SAMPLERS = ("dense", "triplet", "balanced")
PRECISIONS = ("no", "bf16", "fp16")
BATCH_NORMS = ("synchronized", "local", "frozen")
QUEUE_DTYPES = ("float32", "bfloat16", "float16")


def _one_of(choices: tuple[str, ...]) -> str:
    return " or ".join(map(repr, choices))


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")


@dataclass(frozen=True)
class DataConfig:
    """Which dataset, and how its images reach the model."""

    name: str = "rendered"  # a name of ipad_data.list_datasets()
    dir: str | None = None  # folder of the dataset's files; the rendered dataset needs none
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of ipad_data.load
    detail_size: int = 128  # side of the decoded images, px; the second branch's crops are cut from these
    num_workers: int = 2  # decoding processes per training process; the batches do not depend on it
    on_error: str = "raise"  # an unreadable image: raise, or skip (and count)
    flip: float = 0.5  # probability of a horizontal flip, per image
    augmentation: dict[str, Any] = field(default_factory=dict)  # further arguments of ipad_data's BatchAugmentation
    vectors: str | None = None  # embeddings of your own instead of images, .npy or .safetensors; see vectors.py
    keep_maps: bool = True  # a trunk that is frozen whole runs once per image, and its maps are read from files
    maps_dir: str | None = None  # where those files lie, for several runs to share; None: maps in output_dir
    anchor_views: int = 0  # triplet batches: augmented views of each anchor, as further anchors (the paper's code: 2)
    anchor_augmentation: dict[str, Any] = field(default_factory=dict)  # arguments of the views' BatchAugmentation

    def __post_init__(self) -> None:
        _require(self.detail_size > 0, "data.detail_size", self.detail_size, "positive")
        _require(self.num_workers >= 0, "data.num_workers", self.num_workers, "zero or more")
        _require(self.on_error in ("raise", "skip"), "data.on_error", self.on_error, "'raise' or 'skip'")
        _require(0 <= self.flip <= 1, "data.flip", self.flip, "within [0, 1]")
        _require(self.anchor_views >= 0, "data.anchor_views", self.anchor_views, "zero or more")


@dataclass(frozen=True)
class ModelConfig:
    """Which network: a name of ipad_core.list_models() and the arguments it takes."""

    name: str = "ipad_tiny"
    options: dict[str, Any] = field(default_factory=dict)
    trunk_weights: str | None = None  # a saved model or run whose trunk this one starts from; replaces stage 0


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: so many ``steps``, or so many ``epochs`` of the dataset. 0 leaves the stage out.

    ``epochs`` is turned into steps once the data are known; see `stage_lengths.py`.
    """

    steps: int = 0  # optimizer steps
    objective: str | None = None  # a name of ipad_train.objectives.OBJECTIVES; null: the stage's own
    epochs: float | None = None  # in place of steps: times that the stage goes through the labelled training images
    min_steps: int | None = None  # of a length in epochs: at least so many steps, for small datasets
    max_steps: int | None = None  # of a length in epochs: at most so many steps, for large ones
    when: str = "always"  # stage 0: always, or without_weights: only where its trunk has no pretrained weights
    batch_size: int = 64  # of a step, over all processes: images (dense), triplets (triplet), labels (balanced)
    accumulation: int | None = None  # micro-batches of a step, each with losses of its own; null: the launcher's, or 1
    sampler: str = "dense"  # dense: every labelled attribute of an image; triplet: as the paper; balanced
    values_per_attribute: int = 4  # balanced: values of each attribute of a batch ...
    images_per_value: int = 4  # ... and images of each of these values
    entries_per_image: int | None = None  # dense: at most so many attributes of an image in a step, drawn at random
    balance: float = 0.0  # dense: 0 draws every image alike; 1 draws images of rare values as often as of common ones
    triplets_per_epoch: int = 100_000  # triplet: length of an epoch
    optimizer: str = "adamw"  # adamw or adam
    learning_rate: float = 2e-3
    spatial_learning_rate: float | None = None  # stage 2: of IP-SP; 0 freezes it; None: the same as learning_rate
    weight_decay: float = 0.05
    schedule: str = "one_cycle"  # one_cycle: linear warm-up, cosine to zero; step: decay every so many steps
    warmup: float = 0.15  # one_cycle: share of the steps
    decay: float = 0.9  # step: factor
    decay_every: int = 1000  # step: steps between two decays
    gradient_clip: float = 5.0  # global norm; 0 for none

    def __post_init__(self) -> None:
        _require(self.steps >= 0, "steps", self.steps, "zero or more")
        self._check_length()
        _require(self.when in ("always", "without_weights"), "when", self.when, "'always' or 'without_weights'")
        _require(self.batch_size > 0, "batch_size", self.batch_size, "positive")
        _require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        _require(self.values_per_attribute > 1, "values_per_attribute", self.values_per_attribute, "2 or more")
        _require(self.images_per_value > 1, "images_per_value", self.images_per_value, "2 or more")
        block = self.values_per_attribute * self.images_per_value
        fits = self.sampler != "balanced" or self.batch_size % block == 0
        _require(
            fits, "batch_size", self.batch_size, f"a multiple of values_per_attribute * images_per_value, {block}"
        )
        _require(self.optimizer in ("adamw", "adam"), "optimizer", self.optimizer, "'adamw' or 'adam'")
        _require(self.schedule in ("one_cycle", "step"), "schedule", self.schedule, "'one_cycle' or 'step'")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "within [0, 1)")
        rate = self.spatial_learning_rate
        _require(rate is None or rate >= 0, "spatial_learning_rate", rate, "zero or more, or null")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "zero or more")
        _require(0 < self.decay <= 1, "decay", self.decay, "within (0, 1]")
        _require(self.decay_every > 0, "decay_every", self.decay_every, "positive")
        _require(self.gradient_clip >= 0, "gradient_clip", self.gradient_clip, "zero or more")
        _require(self.triplets_per_epoch > 0, "triplets_per_epoch", self.triplets_per_epoch, "positive")
        _require(0 <= self.balance <= 1, "balance", self.balance, "within [0, 1]")
        if self.accumulation is not None:
            _require(self.accumulation > 0, "accumulation", self.accumulation, "positive or null")
            parts = self.accumulation
            _require(
                self.batch_size % parts == 0, "batch_size", self.batch_size, f"a multiple of accumulation, {parts}"
            )
        if self.entries_per_image is not None:
            _require(self.entries_per_image > 0, "entries_per_image", self.entries_per_image, "positive")

    def _check_length(self) -> None:
        bounds = {"min_steps": self.min_steps, "max_steps": self.max_steps}
        given = {name: value for name, value in bounds.items() if value is not None}
        for name, value in given.items():
            _require(value > 0, name, value, "positive")
        if self.epochs is None:
            if given:
                raise ValueError(f"{' and '.join(given)} bound a length in epochs, and epochs is not given")
            return
        _require(self.epochs >= 0, "epochs", self.epochs, "zero or more")
        _require(not self.steps, "steps", self.steps, "0 where epochs is given, which takes its place")
        if len(given) == 2:
            _require(
                self.min_steps <= self.max_steps, "min_steps", self.min_steps, f"at most max_steps, {self.max_steps}"
            )

    @property
    def is_trained(self) -> bool:
        """Whether the stage has a length."""
        return bool(self.steps or self.epochs)


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of Eq. 14 to 20."""

    margin: float = 0.2  # [m] of the triplet and the cluster center loss, cosine units
    average: str = "triplets"  # dense batches: mean over all active triplets, or over `attributes` of each one's mean
    naming_weight: float = (
        0.0  # cross-entropy of naming the value from the embedding; not in the paper, see ValueNaming
    )
    temperature: float = 0.07  # [tau] of Eq. 15
    background_weight: float = 12.0  # [epsilon] of background negatives in Eq. 15
    semantic_weight: float = 0.1  # [lambda_1] of the semantic branch's triplet loss
    contrast_weight: float = 0.04  # [lambda_2] of the foreground-background loss; 0 leaves the branches independent
    spatial_center_weight: float = 1.0  # [xi_1]
    semantic_center_weight: float = 1.0  # [xi_2]

    def __post_init__(self) -> None:
        _require(0 <= self.margin <= 2, "losses.margin", self.margin, "within [0, 2], cosine units")
        _require(self.temperature > 0, "losses.temperature", self.temperature, "positive")
        for name in ("naming", "background", "semantic", "contrast", "spatial_center", "semantic_center"):
            weight = getattr(self, f"{name}_weight")
            _require(weight >= 0, f"losses.{name}_weight", weight, "zero or more")
        _require(
            self.average in ("triplets", "attributes"), "losses.average", self.average, "'triplets' or 'attributes'"
        )


@dataclass(frozen=True)
class ClusterConfig:
    """Momentum encoder, queues and centers (Eq. 10, 11, 16)."""

    enabled: bool = True
    momentum: float = 0.995  # [mu]
    queue_length: int | None = None  # [n_q]; None: min(1000, training images per value / 8)
    queue_dtype: str = "float32"  # of the queued features; bfloat16 and float16 take half the memory
    refresh_every: int = 50  # [n_b] steps between two recomputations of the centers
    filled_share: float = 0.9  # share of values with training data whose queue must be full before the loss starts
    start: float = 0.3  # not before this share of the stage, so that the features have settled
    start_by: float = 0.6  # from here on with the centers there are: a rare value may never fill its queue

    def __post_init__(self) -> None:
        _require(0 <= self.momentum < 1, "clusters.momentum", self.momentum, "within [0, 1)")
        length = self.queue_length
        _require(length is None or length > 0, "clusters.queue_length", length, "positive or null")
        _require(self.queue_dtype in QUEUE_DTYPES, "clusters.queue_dtype", self.queue_dtype, _one_of(QUEUE_DTYPES))
        _require(0 <= self.filled_share <= 1, "clusters.filled_share", self.filled_share, "within [0, 1]")
        _require(self.refresh_every > 0, "clusters.refresh_every", self.refresh_every, "positive")
        _require(0 <= self.start <= self.start_by <= 1, "clusters.start", self.start, "within [0, clusters.start_by]")


@dataclass(frozen=True)
class RerankConfig:
    """Feature Reasoning, fitted when a run ends."""

    enabled: bool = True
    fit_split: str = "train"  # train, as the paper; validation: embeddings the network was not trained on
    n_r: int = 500  # query and candidates; limited by half the gallery
    n_t: int = 1  # rounds
    steps: int = 300  # of the fit
    max_embeddings: int = 20_000  # training embeddings used, drawn at random
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of FeatureReasoning.fit

    def __post_init__(self) -> None:
        _require(
            self.fit_split in ("train", "validation"), "rerank.fit_split", self.fit_split, "'train' or 'validation'"
        )
        _require(self.n_r >= 2, "rerank.n_r", self.n_r, "at least 2")
        _require(self.n_t >= 1, "rerank.n_t", self.n_t, "at least 1")
        _require(self.steps >= 0, "rerank.steps", self.steps, "zero or more")
        _require(self.max_embeddings > 1, "rerank.max_embeddings", self.max_embeddings, "at least 2")


@dataclass(frozen=True)
class LoopConfig:
    """What the training loop does besides stepping."""

    log_every: int = 10  # steps
    eval_every: int = 0  # steps of a stage; 0: at the end of each stage
    eval_max_queries: int | None = None  # validation queries used while training; None: all
    patience: int = 0  # evaluations in a row without a better validation MAP that end a stage; 0: never
    save_every: int = 200  # steps
    keep_checkpoints: int = 2
    mixed_precision: str | None = None  # no, bf16, fp16; null: what `accelerate launch` says, or no
    batch_norm: str = "synchronized"  # over all processes; local: each its own part; frozen: running statistics stay
    compile: bool = False  # torch.compile the model
    log_with: list[str] = field(default_factory=lambda: ["tensorboard"])  # Accelerate's trackers, beside metrics.jsonl
    channels_last: bool = True
    threads: int | None = (
        None  # CPU threads of each process; None: OMP_NUM_THREADS where set, else the cores there are
    )

    def __post_init__(self) -> None:
        queries = self.eval_max_queries
        _require(queries is None or queries > 0, "loop.eval_max_queries", queries, "positive or null")
        _require(self.log_every > 0, "loop.log_every", self.log_every, "positive")
        _require(self.eval_every >= 0, "loop.eval_every", self.eval_every, "zero or more")
        _require(self.patience >= 0, "loop.patience", self.patience, "zero or more")
        if self.patience and not self.eval_every:
            raise ValueError(
                f"loop.patience={self.patience} counts evaluations: set loop.eval_every, which is 0, as well"
            )
        _require(self.threads is None or self.threads > 0, "loop.threads", self.threads, "positive or null")
        _require(self.save_every > 0, "loop.save_every", self.save_every, "positive")
        _require(self.keep_checkpoints > 0, "loop.keep_checkpoints", self.keep_checkpoints, "positive")
        _require(
            self.mixed_precision in (None, *PRECISIONS), "loop.mixed_precision", self.mixed_precision,
            f"null or {_one_of(PRECISIONS)}",
        )  # fmt: skip
        _require(self.batch_norm in BATCH_NORMS, "loop.batch_norm", self.batch_norm, _one_of(BATCH_NORMS))


@dataclass(frozen=True)
class RunConfig:
    """A whole run: data, network, three stages, losses, clusters, re-ranking, loop."""

    output_dir: str = "runs/ipad"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stage0: StageConfig = field(default_factory=StageConfig)  # the trunk learns by attribute classification
    stage1: StageConfig = field(default_factory=StageConfig)  # IP-SP alone, or the whole of a one-branch method
    stage2: StageConfig = field(default_factory=StageConfig)  # both branches
    losses: LossConfig = field(default_factory=LossConfig)
    clusters: ClusterConfig = field(default_factory=ClusterConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        for name in STAGE_NAMES[1:]:
            _require(getattr(self, name).when == "always", f"{name}.when", getattr(self, name).when, "'always'")
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
