"""The few collectives that training needs beside Accelerate: one batch from the entries of all processes.

How gradients scale. Every process computes the loss of the whole batch from the gathered features. In backward each
takes its own rows of the gradient times the number of processes, as the engines (DDP, DeepSpeed) take the mean over
processes of what each adds up. That mean is then the gradient of the whole batch's loss, as one process would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

Done = TypeVar("Done")
_SENTENCE = 2048  # bytes of the longest reason that processes tell each other


def is_distributed() -> bool:
    """Whether more than one process trains."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def on_main_process(accelerator: Accelerator, work: Callable[[], Done]) -> Done | None:
    """Do what only the main process does, such as locking a folder; where that fails, every process fails.

    Without this the others would go on alone, and end much later with words of their own about a lost connection.

    Returns:
        What ``work`` returns; None on the other processes.

    Raises:
        OSError, ValueError: of ``work``, on the main process. The others raise a ``ChildProcessError``, which is an
            ``OSError``, with the same sentence.
    """
    done, raised = None, None
    if accelerator.is_main_process:
        try:
            done = work()
        except (OSError, ValueError) as error:
            raised = error
    if accelerator.num_processes > 1:
        text = torch.zeros(_SENTENCE, dtype=torch.uint8, device=accelerator.device)
        if raised is not None:
            sentence = (str(raised) or repr(raised)).encode()[:_SENTENCE]
            text[: len(sentence)] = torch.tensor(list(sentence), dtype=torch.uint8)
        dist.broadcast(text, src=0)
        reason = bytes(text.tolist()).rstrip(b"\0").decode(errors="ignore")
        if reason and not accelerator.is_main_process:
            raise ChildProcessError(reason)
    if raised is not None:
        raise raised
    return done


class WholeBatch:
    """The batch of all processes, in the order that one process would have it in.

    Process r holds the r-th share of the batch. Where its entries are stacked in parts (anchors, positives, negatives,
    ...), the whole batch is stacked in the same parts: the anchors of all processes in the order of their ranks, then
    the positives, and so on. All processes must make one at the same point, with the same ``parts``. One process gets
    its tensors back.

    Args:
        entries: This process's number of entries, which may differ from the others'.
        parts: Parts of equal length that they are stacked in; 1 for entries without such an order.
        device: Of the tensors.
    """

    def __init__(self, entries: int, parts: int, device: torch.device) -> None:
        self.sizes = [entries]
        self._order: Tensor | None = None
        if not is_distributed():
            return
        counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
        counts[dist.get_rank()] = entries
        dist.all_reduce(counts)
        self.sizes = counts.tolist()
        if parts > 1:
            self._order = restacked(self.sizes, parts).to(device)

    @torch.no_grad()
    def gather(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """``(B, ...)`` of every process to ``(sum of B, ...)`` on all of them, without gradient."""
        return tuple(self._ordered(_gather_rows(tensor, self.sizes)) for tensor in tensors)

    def gather_with_gradient(self, features: Tensor) -> Tensor:
        """As :meth:`gather`, with a gradient that scales as the module's first lines say."""
        return features if len(self.sizes) == 1 else self._ordered(_GatherRows.apply(features, self.sizes))

    def _ordered(self, rows: Tensor) -> Tensor:
        return rows if self._order is None else rows.index_select(0, self._order)


def restacked(sizes: list[int], parts: int) -> Tensor:
    """Positions that bring entries stacked process by process into parts of the whole batch.

    Example:
        >>> restacked([2, 4], 2).tolist()  # a | p | a a | p p -> a a a | p p p
        [0, 2, 3, 1, 4, 5]
    """
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    shares = [size // parts for size in sizes]
    positions = [
        torch.arange(start + part * share, start + (part + 1) * share)
        for part in range(parts)
        for start, share in zip(starts, shares, strict=True)
    ]
    return torch.cat(positions)


def gather_entries(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Concatenate every process's entries along dim 0, in the order of ranks, on all processes, without gradient.

    The number of entries may differ between processes. One process gets its own tensors back.

    Shape:
        each ``(B_rank, ...)`` with one B_rank for all tensors; returns each ``(sum of B_rank, ...)``.
    """
    return WholeBatch(tensors[0].shape[0], 1, tensors[0].device).gather(*tensors)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor, sizes: list[int]) -> Tensor:
        rank = dist.get_rank()
        ctx.mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        ctx.processes = len(sizes)
        return _gather_rows(rows, sizes)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.mine] * ctx.processes, None


def _gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    if len(sizes) == 1:
        return rows
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Make the running statistics of batch norm the mean over processes: a few kilobytes in one collective."""
    if not is_distributed():
        return
    names = ("running_mean", "running_var")
    found = [getattr(part, name, None) for part in module.modules() if part.training for name in names]
    statistics = [buffer for buffer in found if buffer is not None]
    if not statistics:
        return
    flat = torch.cat([buffer.flatten() for buffer in statistics])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for buffer, mean in zip(statistics, flat.split([buffer.numel() for buffer in statistics]), strict=True):
        buffer.copy_(mean.view_as(buffer))
