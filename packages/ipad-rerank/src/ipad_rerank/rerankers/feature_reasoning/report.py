"""What a fit says of itself: each measure before and after on held-out queries, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ipad_rerank.metrics.objectives import label_of
from ipad_rerank.metrics.summary import Interval
from ipad_rerank.rerankers.saving import Config


class Gain(NamedTuple):
    """A measure's mean (0 to 1) before and after, and the interval of the gain."""

    before: float
    after: float
    interval: Interval

    def __str__(self) -> str:
        gain = self.interval
        return (
            f"{100 * self.before:.2f} -> {100 * self.after:.2f}, {100 * gain.difference:+.2f} "
            f"(95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
        )


class AtSize(NamedTuple):
    """Mean of the objective (0 to 1) in galleries of one size, and the upper end of the gain's interval."""

    size: int
    before: float
    after: float
    high: float


@dataclass(frozen=True)
class FitReport:
    """Held-out queries without and with the reasoner.

    Args:
        objective: Name of the measure that the fit was asked to raise.
        gains: Each measure over all gallery sizes; empty where no held-out query has a relevant item.
        sizes: The objective in galleries of each size.
    """

    objective: str
    gains: dict[str, Gain]
    sizes: tuple[AtSize, ...]

    @property
    def is_gain(self) -> bool:
        """True where the objective's gain surely is above 0, and no gallery size surely loses."""
        if not self.gains:
            return False
        return self.gains[self.objective].interval.low > 0 and min(at.high for at in self.sizes) >= 0

    @property
    def best_size(self) -> int:
        """The largest gallery whose value comes within half a point of the best: larger ones need fewer sequences.

        By value, not by gain: behind a query expansion the gain is largest where the expansion did harm.
        """
        best = max(at.after for at in self.sizes)
        return max(at.size for at in self.sizes if at.after >= best - 0.005)

    @property
    def summary(self) -> str:
        name = label_of(self.objective)
        if not self.gains:
            return f"{name}: no held-out query has a relevant item"
        gain = self.gains[self.objective]
        return f"{name} {gain} on {gain.interval.queries} held-out queries"

    def __str__(self) -> str:
        lines = [f"Held out: {self.summary}"]
        for at in self.sizes:
            gain = 100 * (at.after - at.before)
            lines.append(f"  gallery {at.size}: {100 * at.before:.2f} -> {100 * at.after:.2f}, {gain:+.2f}")
        lines += [f"  {label_of(name)} {gain}" for name, gain in self.gains.items() if name != self.objective]
        return "\n".join(lines)

    def to_dict(self) -> Config:
        """For JSON."""
        return {
            "objective": self.objective,
            "queries": self.gains[self.objective].interval.queries if self.gains else 0,
            "measures": {
                name: {"before": g.before, "after": g.after, "gain_interval": [g.interval.low, g.interval.high]}
                for name, g in self.gains.items()
            },
            "gallery_sizes": [{"size": at.size, "before": at.before, "after": at.after} for at in self.sizes],
        }
