"""What ``ipad-train embed`` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BRANCHES = ("fused", "spatial", "semantic")
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class EmbedOptions:
    """What is embedded, and how it is written: see the options of ``ipad-train embed``.

    Raises:
        ValueError: a branch, type or size that is not allowed; a split beside photos.
    """

    split: str | None = None
    photos: Path | None = None
    image_column: str | None = None
    stage: str | None = None
    branch: str = "fused"
    dtype: str = "float32"
    shard_photos: int = 2048

    def __post_init__(self) -> None:
        for name, value, allowed in (("branch", self.branch, BRANCHES), ("dtype", self.dtype, DTYPES)):
            if value not in allowed:
                raise ValueError(f"--{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.shard_photos < 1:
            raise ValueError(f"--shard-photos must be at least 1, got {self.shard_photos}")
        if self.photos is not None and self.split is not None:
            raise ValueError(f"--photos {self.photos} takes the place of a split; leave --split {self.split} out")
        if self.image_column is not None and self.photos is None:
            raise ValueError(f"--image-column {self.image_column} is for a table that --photos names")
