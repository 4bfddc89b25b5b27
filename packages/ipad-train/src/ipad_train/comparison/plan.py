"""What a comparison compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from ipad_train.budget import Budget
from ipad_train.comparison.peers import check_peers, row_name


@dataclass(frozen=True)
class ComparisonPlan:
    """Which networks are compared, on which split, and what is equal for all.

    Args:
        models: Networks of :data:`ipad_train.comparison.peers.PEERS` beside the configured one, or ``all``.
        split: Split to evaluate on.
        against: Row that all others are compared with by paired bootstrap; its name, or that of its network.
        budget: What is equal for all; by default the stages as configured.
    """

    models: Sequence[str]
    split: str = "test"
    against: str | None = None
    budget: Budget = field(default_factory=Budget)

    def beside(self, configured: str) -> ComparisonPlan:
        """The plan with each network and the row by its own name.

        Args:
            configured: Architecture of the configured network.

        Raises:
            ValueError: an unknown network or row; the nearest are named.
        """
        models = check_peers(self.models, configured)
        return dataclasses.replace(self, models=models, against=row_name(self.against, models, configured))
