"""What a fit says of itself: each measure before and after on held-out queries, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ipad_rerank.metrics.objectives import label_of
from ipad_rerank.metrics.summary import Interval, paired_bootstrap
from ipad_rerank.rerankers.saving import Config


class Gain(NamedTuple):
    """A measure's mean (0 to 1) before and after, and the interval of the gain."""

    before: float
    after: float
    interval: Interval

    @classmethod
    def of(cls, before: Tensor, after: Tensor, seed: int) -> Gain:
        """Of values ``(Q,)`` of the same queries; of no query it is none."""
        if not len(before):
            return cls(0.0, 0.0, Interval(0.0, 0.0, 0.0, 0.95, 0))
        return cls(float(before.mean()), float(after.mean()), paired_bootstrap(before, after, seed=seed))

    @property
    def change(self) -> str:
        return f"{100 * self.before:.2f} -> {100 * self.after:.2f}, {100 * self.interval.difference:+.2f}"

    def __str__(self) -> str:
        return f"{self.change} (95 % interval {100 * self.interval.low:+.2f} to {100 * self.interval.high:+.2f})"


@dataclass(frozen=True)
class FitReport:
    """Held-out queries without and with the reasoner.

    Args:
        objective: Name of the measure that the fit was asked to raise.
        gains: Each measure over all gallery sizes.
        sizes: The objective in galleries of each size.
    """

    objective: str
    gains: dict[str, Gain]
    sizes: dict[int, Gain]

    @property
    def is_gain(self) -> bool:
        """True where the objective's gain surely is above 0, and no gallery size surely loses."""
        at_size = (gain.interval.high for gain in self.sizes.values())
        return self.gains[self.objective].interval.low > 0 and min(at_size) >= 0

    @property
    def best_size(self) -> int:
        """The largest gallery whose value comes within half a point of the best: larger ones need fewer sequences.

        By value, not by gain: behind a query expansion the gain is largest where the expansion did harm.
        """
        best = max(gain.after for gain in self.sizes.values())
        return max(size for size, gain in self.sizes.items() if gain.after >= best - 0.005)

    @property
    def summary(self) -> str:
        name, gain = label_of(self.objective), self.gains[self.objective]
        if not gain.interval.queries:
            return f"{name}: no held-out query has a relevant item"
        return f"{name} {gain} on {gain.interval.queries} held-out queries"

    def __str__(self) -> str:
        lines = [f"Held out: {self.summary}"]
        lines += [f"  gallery {size}: {gain.change}" for size, gain in self.sizes.items()]
        lines += [f"  {label_of(name)} {gain}" for name, gain in self.gains.items() if name != self.objective]
        return "\n".join(lines)

    def to_dict(self) -> Config:
        """For JSON."""
        return {
            "objective": self.objective,
            "queries": self.gains[self.objective].interval.queries,
            "measures": {
                name: {"before": g.before, "after": g.after, "gain_interval": [g.interval.low, g.interval.high]}
                for name, g in self.gains.items()
            },
            "gallery_sizes": [{"size": n, "before": g.before, "after": g.after} for n, g in self.sizes.items()],
        }
