"""In what order the entries of a batch are stacked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLayout:
    """The order of a batch's entries.

    Args:
        sampler: As ``stageN.sampler``. A batch of ``triplet`` holds anchors, positives, negatives, and then each view of the
            anchors, as parts of equal length. Batches of the other samplers have no such order.
        anchor_views: Augmented views of each anchor that a triplet batch holds.
    """

    sampler: str
    anchor_views: int = 0

    @property
    def stacked(self) -> bool:
        """Whether a batch is made of triplets."""
        return self.sampler == "triplet"

    @property
    def parts(self) -> int:
        """Parts that the entries are stacked in; 1 where they have no order."""
        return 3 + self.anchor_views if self.stacked else 1
