"""One stage of training."""

from __future__ import annotations

from dataclasses import dataclass

from ipad_train.config.options import option, require

STAGE_NAMES = ("stage0", "stage1", "stage2")
# When a stage is trained: always, or only where the trunk's weights or the photos ask for it.
WHEN = {"stage0": ("always", "without_weights"), "stage1": ("always",), "stage2": ("always", "larger_photos")}
SAMPLERS = ("dense", "triplet", "balanced")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: so many ``steps``, or so many ``epochs`` of the dataset. 0 leaves the stage out.

    ``epochs`` is turned into steps once the data are known; see `stage_lengths.py`.
    """

    steps: int = option(0, "optimizer steps; 0 leaves the stage out")
    objective: str | None = option(None, "a name of ipad_train.objectives.OBJECTIVES; null: the stage's own")
    epochs: float | None = option(None, "in place of steps: times that the stage goes through the labelled images")
    min_steps: int | None = option(None, "of a length in epochs: at least so many steps, for small datasets")
    max_steps: int | None = option(None, "of a length in epochs: at most so many steps, for large ones")
    when: str = option(
        "always",
        "always; or, of stage0, without_weights: only where its trunk has no pretrained weights; of stage2, larger_photos: "
        "only where half of the photos are larger than what IP-SP reads",
    )
    batch_size: int = option(
        64, "of a step, over all processes: images (dense), triplets (triplet), labels (balanced)"
    )
    accumulation: int | None = option(
        None, "micro-batches of a step, each with losses of its own; null: the launcher's, or 1"
    )
    sampler: str = option("dense", "dense: every labelled attribute of an image; triplet: as the paper; balanced")
    values_per_attribute: int = option(4, "balanced: values of each attribute of a batch")
    images_per_value: int = option(4, "balanced: images of each of these values")
    entries_per_image: int | None = option(
        None, "dense: at most so many attributes of an image in a step, drawn at random; null: all"
    )
    balance: float = option(0.0, "dense: 0 draws every image alike; 1 draws rare values as often as common ones")
    triplets_per_epoch: int = option(100_000, "triplet: length of an epoch")
    optimizer: str = option("adamw", "adamw or adam")
    learning_rate: float = option(2e-3, "at its highest")
    spatial_learning_rate: float | None = option(None, "stage2: of IP-SP; 0 freezes it; null: that of the others")
    trunk_learning_rate: float | None = option(
        None,
        "at most so much for trunks that learn, whose pretrained weights need less than new layers; null: no limit",
    )
    weight_decay: float = option(0.05, "of matrices; vectors are not decayed")
    schedule: str = option("one_cycle", "one_cycle: linear warm-up, cosine to zero; step: decay every so many steps")
    warmup: float = option(0.15, "one_cycle: share of the steps")
    decay: float = option(0.9, "step: factor on the learning rate")
    decay_every: int = option(1000, "step: steps between two decays")
    gradient_clip: float = option(5.0, "largest norm of the gradient of all weights; 0 for none")

    def __post_init__(self) -> None:
        require(self.steps >= 0, "steps", self.steps, "zero or more")
        self._check_length()
        require(self.triplets_per_epoch > 0, "triplets_per_epoch", self.triplets_per_epoch, "positive")
        self._check_batch()
        self._check_optimizer()

    def _check_length(self) -> None:
        bounds = {"min_steps": self.min_steps, "max_steps": self.max_steps}
        given = {name: value for name, value in bounds.items() if value is not None}
        for name, value in given.items():
            require(value > 0, name, value, "positive")
        if self.epochs is None:
            if given:
                raise ValueError(f"{' and '.join(given)} bound a length in epochs, and epochs is not given")
            return
        require(self.epochs >= 0, "epochs", self.epochs, "zero or more")
        require(not self.steps, "steps", self.steps, "0 where epochs is given, which takes its place")
        if len(given) == 2:
            least = self.min_steps
            require(least <= self.max_steps, "min_steps", least, f"at most max_steps, {self.max_steps}")

    def _check_batch(self) -> None:
        size = self.batch_size
        require(size > 0, "batch_size", size, "positive")
        require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(self.values_per_attribute > 1, "values_per_attribute", self.values_per_attribute, "2 or more")
        require(self.images_per_value > 1, "images_per_value", self.images_per_value, "2 or more")
        block = self.values_per_attribute * self.images_per_value
        fits = self.sampler != "balanced" or size % block == 0
        require(fits, "batch_size", size, f"a multiple of values_per_attribute * images_per_value, {block}")
        require(0 <= self.balance <= 1, "balance", self.balance, "within [0, 1]")
        if self.accumulation is not None:
            require(self.accumulation > 0, "accumulation", self.accumulation, "positive or null")
            parts = self.accumulation
            require(size % parts == 0, "batch_size", size, f"a multiple of accumulation, {parts}")
        if self.entries_per_image is not None:
            require(self.entries_per_image > 0, "entries_per_image", self.entries_per_image, "positive")

    def _check_optimizer(self) -> None:
        require(self.optimizer in ("adamw", "adam"), "optimizer", self.optimizer, "'adamw' or 'adam'")
        require(self.schedule in ("one_cycle", "step"), "schedule", self.schedule, "'one_cycle' or 'step'")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "within [0, 1)")
        rate = self.spatial_learning_rate
        require(rate is None or rate >= 0, "spatial_learning_rate", rate, "zero or more, or null")
        rate = self.trunk_learning_rate
        require(
            rate is None or rate > 0,
            "trunk_learning_rate",
            rate,
            "positive, or null (model.options.trunk.freeze freezes)",
        )
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "zero or more")
        require(0 < self.decay <= 1, "decay", self.decay, "within (0, 1]")
        require(self.decay_every > 0, "decay_every", self.decay_every, "positive")
        require(self.gradient_clip >= 0, "gradient_clip", self.gradient_clip, "zero or more")

    @property
    def is_trained(self) -> bool:
        """Whether the stage has a length."""
        return bool(self.steps or self.epochs)
