"""Whether a network's images and maps have their channels last in memory."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from ipad_train.config import RunConfig


def lay_out(network: nn.Module, config: RunConfig, accelerator: Accelerator) -> bool:
    """Put the channels of a network last in memory, which is faster; to be called before it is compiled or prepared.

    On a GPU, unless ``loop.channels_last`` is off. Not under DeepSpeed, which broadcasts weights byte by byte as they lie in
    memory, and fails where that is not the order of their indices.

    Returns:
        Whether they are last now.
    """
    under_deepspeed = accelerator.state.deepspeed_plugin is not None
    last = config.loop.channels_last and accelerator.device.type == "cuda" and not under_deepspeed
    if last:
        network.to(memory_format=torch.channels_last)
    return last
