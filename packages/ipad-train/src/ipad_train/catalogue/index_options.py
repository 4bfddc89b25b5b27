"""What ``ipad-train index`` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class IndexOptions:
    """How a catalogue is made: see the options of ``ipad-train index``.

    Args:
        index: Of a new catalogue.
        batch_size: Photos that the model sees at a time.
        skip: Leave unreadable photos out; else the first one is an error.
        verify: Read every photo, also where its size and time of change are those of the last run.
        progress: Show a bar.
    """

    table: Path | None = None
    no_table: bool = False
    image_column: str | None = None
    index: str = "FLAT"
    batch_size: int = 32
    skip: bool = False
    verify: bool = False
    rebuild: bool = False
    moved: bool = False
    progress: bool = True
