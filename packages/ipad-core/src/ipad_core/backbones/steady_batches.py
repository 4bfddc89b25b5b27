"""Batches of few sizes, for a GPU.

cuDNN makes a plan for each convolution and each size of a batch. On an H100 that took an EfficientNet-Lite0 about 5 seconds
for each new size, forward and backward, and 0.1 seconds once it was known. Crops come one for each entry, and images have
different numbers of labels, so that nearly every batch of crops has a size of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

STEP = 32
"""Larger batches have a multiple of this many images, smaller ones a power of two."""


def steady_size(count: int) -> int:
    """The size of a batch in which ``count`` images, at least one, have room."""
    return 1 << (count - 1).bit_length() if count < STEP else -(-count // STEP) * STEP


def in_steady_batches(network: nn.Module, maps: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
    """What ``maps`` makes of images ``(N, 3, H, W)``, in a batch that is filled up with zeros, which are cut off again.

    Maps and gradients are those of the images by themselves. Where a batch norm of the network takes its statistics from the
    batch, the zeros would be among them: then nothing is filled up.
    """
    count = len(images)
    missing = steady_size(count) - count if count else 0
    if not missing or any(_reads_the_batch(module) for module in network.modules()):
        return maps(images)
    return [found[:count] for found in maps(F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)))]


def _reads_the_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
