"""What ``ipad-train serve`` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ipad_train.catalogue.errors import CatalogueError


@dataclass(frozen=True)
class ServeOptions:
    """How a catalogue is served: see the options of ``ipad-train serve``.

    Raises:
        CatalogueError: limits out of range, a token that is easily guessed.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    model: str | None = None
    photos: Path | None = None
    max_upload_mb: float = 10
    max_megapixels: float = 40

    def __post_init__(self) -> None:
        for option, value in (("--max-upload-mb", self.max_upload_mb), ("--max-megapixels", self.max_megapixels)):
            if not 0 < value <= 1000:
                raise CatalogueError(f"{option} must be within (0, 1000], got {value:g}")
        if self.token is not None and len(self.token) < 16:
            raise CatalogueError("--token must have at least 16 characters")
