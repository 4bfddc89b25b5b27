"""What the training loop does besides stepping, and re-ranking when a run ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipad_train.config.options import one_of, option, require

PRECISIONS = ("no", "bf16", "fp16")
BATCH_NORMS = ("synchronized", "local", "frozen")


@dataclass(frozen=True)
class ValuesConfig:
    """Probabilities of values in the delivered embedding; not in the paper, see `ipad_core.ValuePosteriors`."""

    enabled: bool = option(False, "fit them when a run ends, and keep them where validation rises")
    max_embeddings: int = option(100_000, "training embeddings used, drawn at random")

    def __post_init__(self) -> None:
        require(self.max_embeddings > 1, "values.max_embeddings", self.max_embeddings, "at least 2")


@dataclass(frozen=True)
class RerankConfig:
    """Feature Reasoning, fitted when a run ends, and query expansion beside it."""

    enabled: bool = option(True, "whether rankings are redone; only in a way that raises validation MAP")
    fit_split: str = option("train", "train, as the paper; validation: embeddings the network was not trained on")
    n_r: int = option(500, "query and candidates; limited by half the gallery")
    n_t: int = option(1, "rounds: times that the ranking is redone")
    steps: int = option(300, "of the fit")
    max_embeddings: int = option(20_000, "training embeddings used, drawn at random")
    options: dict[str, Any] = option(dict, "further arguments of FeatureReasoning.fit")
    expand: list[int] = option(
        list, "candidates that pull in query expansions, which are tried beside it and behind it"
    )

    def __post_init__(self) -> None:
        split = self.fit_split
        require(split in ("train", "validation"), "rerank.fit_split", split, "'train' or 'validation'")
        require(self.n_r >= 2, "rerank.n_r", self.n_r, "at least 2")
        require(self.n_t >= 1, "rerank.n_t", self.n_t, "at least 1")
        require(self.steps >= 0, "rerank.steps", self.steps, "zero or more")
        for k in self.expand:
            require(isinstance(k, int) and k >= 1, "rerank.expand", k, "a list of whole numbers from 1 on")
        require(self.max_embeddings > 1, "rerank.max_embeddings", self.max_embeddings, "at least 2")


@dataclass(frozen=True)
class LoopConfig:
    """What the training loop does besides stepping."""

    log_every: int = option(10, "steps between two lines of metrics.jsonl")
    eval_every: int = option(0, "steps of a stage between two evaluations; 0: at the end of each stage")
    eval_max_queries: int | None = option(None, "validation queries used while training; null: all")
    patience: int = option(0, "evaluations in a row without a better validation MAP that end a stage; 0: never")
    save_every: int = option(200, "steps between two checkpoints")
    keep_checkpoints: int = option(2, "newest checkpoints to keep")
    max_skipped: int = option(
        10, "steps in a row that are left out as their loss or gradient is not finite; one more stops the run"
    )
    mixed_precision: str | None = option(None, "no, bf16, fp16; null: what `accelerate launch` says, or no")
    batch_norm: str = option(
        "synchronized", "over all processes; local: each its own part; frozen: running statistics stay"
    )
    compile: bool = option(False, "torch.compile the model")
    log_with: list[str] = option(lambda: ["tensorboard"], "Accelerate's trackers, beside metrics.jsonl")
    channels_last: bool = option(
        True, "on a GPU, unless under DeepSpeed: images and maps with their channels last in memory"
    )
    threads: int | None = option(
        None, "CPU threads of each process; null: OMP_NUM_THREADS where set, else the cores there are"
    )

    def __post_init__(self) -> None:
        queries = self.eval_max_queries
        require(queries is None or queries > 0, "loop.eval_max_queries", queries, "positive or null")
        require(self.log_every > 0, "loop.log_every", self.log_every, "positive")
        require(self.eval_every >= 0, "loop.eval_every", self.eval_every, "zero or more")
        require(self.patience >= 0, "loop.patience", self.patience, "zero or more")
        if self.patience and not self.eval_every:
            raise ValueError(
                f"loop.patience={self.patience} counts evaluations: set loop.eval_every, which is 0, as well"
            )
        require(self.threads is None or self.threads > 0, "loop.threads", self.threads, "positive or null")
        require(self.save_every > 0, "loop.save_every", self.save_every, "positive")
        require(self.keep_checkpoints > 0, "loop.keep_checkpoints", self.keep_checkpoints, "positive")
        require(self.max_skipped >= 0, "loop.max_skipped", self.max_skipped, "zero or more")
        precision, allowed = self.mixed_precision, f"null or {one_of(PRECISIONS)}"
        require(precision in (None, *PRECISIONS), "loop.mixed_precision", precision, allowed)
        require(self.batch_norm in BATCH_NORMS, "loop.batch_norm", self.batch_norm, one_of(BATCH_NORMS))
