"""The numbers of the steps between two lines of ``metrics.jsonl``: their means over steps and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator

GRADIENT_NORM = "gradient_norm"  # of all processes' mean gradient, before clipping
ACTIVE = "active/"  # share of an attribute's triplets that have a loss
COSINE = "mean_cosine/"  # of two embeddings of an attribute in the batch: near 1, all are the same
RANK = "effective_rank/"  # how many directions an attribute's embeddings spread over
BY_ATTRIBUTE = (
    ACTIVE,
    COSINE,
    RANK,
)  # each followed by the id or the name of an attribute; NaN where a batch has none


class StepNumbers:
    """Running means of named numbers on the device; nothing is read back from it before :meth:`read`.

    Numbers of an attribute count only in the steps and processes that have one. The gradient's norm counts where it is
    finite: the scaler of fp16 tries scales that overflow, and leaves such steps out by itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, torch.Tensor] = {}

    def add(self, numbers: Mapping[str, torch.Tensor | float]) -> None:
        """Take in the numbers of a step or of a micro-batch."""
        for name, value in numbers.items():
            value = torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
            there = torch.ones_like(value)
            if name == GRADIENT_NORM or name.startswith(BY_ATTRIBUTE):
                there = value.isfinite().float()
                value = value.nan_to_num(0.0, 0.0, 0.0)
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + there

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Means since the last call, over processes; all of them have to call."""
        names = sorted(self.sums)
        if not names:
            return {}
        sums = torch.stack([self.sums[name] for name in names])
        counts = torch.stack([self.counts[name] for name in names])
        sums, counts = accelerator.gather(torch.stack([sums, counts])[None]).unbind(dim=1)  # (processes, numbers)
        self._reset()
        sums, counts = sums.sum(dim=0), counts.sum(dim=0)
        means = zip(names, (sums / counts).tolist(), counts.tolist(), strict=True)
        return {name: mean for name, mean, count in means if count}


def name_attributes(means: Mapping[str, float], attributes: Sequence[str]) -> dict[str, float]:
    """The same numbers, with ``active/<attribute id>`` and its like spelled ``active/<attribute>``."""

    def spelled(key: str) -> str:
        kind, slash, number = key.partition("/")
        by_attribute = f"{kind}{slash}" in BY_ATTRIBUTE and number.isdigit()
        return f"{kind}/{attributes[int(number)]}" if by_attribute else key

    return {spelled(key): value for key, value in means.items()}
