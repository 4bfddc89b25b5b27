"""Batch norm over the batch of all processes, or frozen: what `loop.batch_norm` says.

torch's own synchronised batch norm runs on GPUs only. This one runs wherever processes talk to each other, also over gloo on
CPUs, so that the tests see what a GPU runs.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ipad_train.distributed import is_distributed


def synchronize_batch_norm(module: nn.Module) -> None:
    """Give all batch norms of a module the statistics of the whole batch, in place; nothing with one process.

    Their class changes, they themselves do not: names, parameters and references to them stay.

    Raises:
        ValueError: a kind of batch norm that is not known here.
    """
    if not is_distributed():
        return
    for name, part in module.named_modules():
        if not isinstance(part, _BatchNorm):
            continue
        if type(part) in _PLAIN:
            part.__class__ = _PLAIN[type(part)]
        elif hasattr(part, "act") and hasattr(part, "drop"):  # timm's, with its activation
            part.__class__ = _SynchronizedWithActivation
        else:
            raise ValueError(
                f"loop.batch_norm=synchronized does not know {type(part).__name__} ({name}); use 'local' or 'frozen'"
            )


def freeze_batch_norm(module: nn.Module) -> None:
    """Put all batch norms of a module into evaluation mode: running statistics are used and stay as they are."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.training = False


class _GatherStatistics(torch.autograd.Function):
    """Every process's ``(K,)`` numbers as the rows of ``(P, K)``; each gets the gradients that all have of its row."""

    @staticmethod
    def forward(ctx, numbers: Tensor) -> Tensor:
        rows = numbers.new_zeros(dist.get_world_size(), len(numbers))
        rows[dist.get_rank()] = numbers
        dist.all_reduce(rows)
        return rows

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]


def _normalize(norm: _BatchNorm, inputs: Tensor) -> Tensor:
    """``(N, C, ...)`` normalized by the mean and variance over the entries of all processes, in float32.

    Each process tells the others its own mean and variance, so one exchange is enough, and one in backward. The mean square
    minus the squared mean would lose the digits of a small variance; the variances and distances of means do not.
    """
    wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    others = [dim for dim in range(wide.ndim) if dim != 1]
    shape = [1, -1] + [1] * (wide.ndim - 2)
    entries = wide.numel() // wide.shape[1]  # none, where a process has no crops
    own_mean = wide.sum(dim=others) / max(entries, 1)
    own_variance = (wide - own_mean.view(shape)).square().sum(dim=others) / max(entries, 1)
    count = wide.new_full((1,), entries)
    statistics = _GatherStatistics.apply(torch.cat([own_mean, own_variance, count]))
    means, variances, counts = statistics.split([wide.shape[1], wide.shape[1], 1], dim=1)  # (P, C), (P, C), (P, 1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean).square())).sum(0) / total
    _track(norm, mean.detach(), variance.detach(), total)
    normalized = (wide - mean.view(shape)) * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        normalized = normalized * norm.weight.to(wide.dtype).view(shape) + norm.bias.to(wide.dtype).view(shape)
    return normalized.to(inputs.dtype)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, total: Tensor) -> None:
    if norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = variance * total / (total - 1).clamp(min=1)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)


class _Synchronized1d(nn.BatchNorm1d):
    def forward(self, inputs: Tensor) -> Tensor:
        self._check_input_dim(inputs)
        return _normalize(self, inputs) if self.training else super().forward(inputs)


class _Synchronized2d(nn.BatchNorm2d):
    def forward(self, inputs: Tensor) -> Tensor:
        self._check_input_dim(inputs)
        return _normalize(self, inputs) if self.training else super().forward(inputs)


class _SynchronizedWithActivation(nn.BatchNorm2d):
    """timm's ``BatchNormAct2d``, whose ``drop`` and ``act`` follow the norm."""

    def forward(self, inputs: Tensor) -> Tensor:
        self._check_input_dim(inputs)
        normalized = _normalize(self, inputs) if self.training else super().forward(inputs)
        return self.act(self.drop(normalized))


_PLAIN = {nn.BatchNorm1d: _Synchronized1d, nn.BatchNorm2d: _Synchronized2d}


class RunningStatistics:
    """Running statistics that a step changes, so that a step which fails can be undone.

    Args:
        module: Its batch norms that are in training mode are looked after.
    """

    def __init__(self, module: nn.Module) -> None:
        norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
        self._tensors = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
        self._kept = [torch.empty_like(tensor) for tensor in self._tensors]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are."""
        if self._tensors:
            torch._foreach_copy_(self._kept, self._tensors)

    @torch.no_grad()
    def restore(self) -> None:
        """Put them back as they were."""
        if self._tensors:
            torch._foreach_copy_(self._tensors, self._kept)
