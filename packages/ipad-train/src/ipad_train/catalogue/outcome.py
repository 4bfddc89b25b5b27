"""What a run of indexing did."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHOWN = 50  # unreadable photos that are listed


@dataclass
class Outcome:
    """What a run of indexing did, in photos.

    Attributes:
        embedded: Seen by the model.
        moved: Known content under a new name; ``updated``: other cells of the table. Neither was seen by the model.
        unreadable: Left out, each with the reason.
        seconds: The run took.
    """

    embedded: int = 0
    moved: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    unreadable: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """Lines for the user."""
        rate = f" ({self.embedded / self.seconds:.1f} photos/s)" if self.embedded and self.seconds else ""
        lines = [
            f"{self.embedded} embedded{rate}, {self.unchanged} unchanged, {self.moved} moved, "
            f"{self.updated} with other cells, {self.deleted} deleted, in {self.seconds:.1f} s"
        ]
        if self.unreadable:
            shown = [f"  {line}" for line in self.unreadable[:_SHOWN]]
            more = len(self.unreadable) - _SHOWN
            lines += [f"{len(self.unreadable)} left out:", *shown, *([f"  and {more} more"] if more > 0 else [])]
        return "\n".join(lines)
