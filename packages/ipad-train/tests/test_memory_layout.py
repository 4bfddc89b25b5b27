"""Channels last: on a GPU, and not under DeepSpeed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ipad_train.config import LoopConfig, RunConfig
from ipad_train.memory_layout import lay_out


def accelerator(device, plugin=None):
    """What is asked of an Accelerator; one of a GPU cannot be made without one."""
    return SimpleNamespace(device=torch.device(device), state=SimpleNamespace(deepspeed_plugin=plugin))


@pytest.mark.parametrize(
    ("asked", "device", "plugin", "last"),
    [
        (True, "cuda", None, True),
        (False, "cuda", None, False),
        (True, "cpu", None, False),
        (True, "cuda", "ZeRO", False),
    ],
)
def test_where_channels_are_last(asked, device, plugin, last):
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    config = RunConfig(loop=LoopConfig(channels_last=asked))
    assert lay_out(network, config, accelerator(device, plugin)) == last
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last) == last
    assert network[0].weight.is_contiguous() == (not last)


def test_weights_that_deepspeed_takes_can_be_read_byte_by_byte():
    """As its engine does on every device before it broadcasts them."""
    network = nn.Conv2d(4, 8, 3)
    lay_out(network, RunConfig(), accelerator("cuda", "ZeRO"))
    assert network.weight.data.view(torch.uint8).shape == (8, 4, 3, 12)
    network.to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="to view Float as Byte"):
        network.weight.data.view(torch.uint8)
