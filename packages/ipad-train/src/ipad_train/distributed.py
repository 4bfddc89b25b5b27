"""The few collectives that training needs beside Accelerate: entries in rank order, and equal buffers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


def is_distributed() -> bool:
    """Whether more than one process trains."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def gather_entries(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Concatenate every process's entries along dim 0, in rank order, on all processes.

    The number of entries may differ between processes. No gradient flows. One process gets its own tensors back.

    Shape:
        each ``(B_rank, ...)`` with one B_rank for all tensors; returns each ``(sum of B_rank, ...)``.
    """
    if not is_distributed():
        return tensors
    device = tensors[0].device
    count = torch.tensor([tensors[0].shape[0]], device=device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    sizes = [int(c) for c in counts]
    gathered = []
    for tensor in tensors:
        padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        padded[: tensor.shape[0]] = tensor
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded.contiguous())
        gathered.append(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]))
    return tuple(gathered)


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Make floating buffers (running statistics) the mean over processes, so that all evaluate the same network."""
    if not is_distributed():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
