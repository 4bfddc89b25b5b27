"""The momentum copy of a network (Eq. 10)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """A copy of a network that follows it slowly, gets no gradient and stays in evaluation mode.

    Its weights are float32 at least, also where the network's are bfloat16: numbers of that type lie 0.4 to 0.8 % apart, and
    a step of a two-hundredth of the way is lost in rounding.

    Args:
        network: What to copy; it is not kept.
        momentum: mu, within [0, 1): ``theta' <- mu theta' + (1 - mu) theta``.

    Raises:
        ValueError: momentum outside [0, 1).
    """

    def __init__(self, network: nn.Module, momentum: float = 0.995) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be within [0, 1), got {momentum}")
        self.momentum = momentum
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        halves = (torch.bfloat16, torch.float16)
        self.network._apply(lambda tensor: tensor.float() if tensor.dtype in halves else tensor)

    def train(self, mode: bool = True) -> MomentumEncoder:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move every parameter by 1 - mu of the way to the network's; buffers (running statistics) are copied."""
        own = list(self.network.parameters())
        theirs = [parameter.detach().to(mine.dtype) for mine, parameter in zip(own, network.parameters(), strict=True)]
        torch._foreach_lerp_(own, theirs, 1.0 - self.momentum)
        for mine, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(buffer)

    @torch.no_grad()
    def forward(self, *inputs, **options):
        """The copy's answer, without gradient."""
        return self.network(*inputs, **options)
