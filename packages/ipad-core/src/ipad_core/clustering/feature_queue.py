"""Queues of momentum features, one per {attribute, value}."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureQueue(nn.Module):
    """Ring buffers of the newest features of every value, allocated once, on the device, part of the saved state.

    A batch is enqueued without a loop over its entries and without waiting for the device. Within a batch the entries of
    one value keep their order; when more of one value arrive than its queue holds, the last ones stay.

    Args:
        num_values: V, over all attributes.
        length: n_q, features a value keeps.
        dim: d.
        dtype: Of the stored features; bfloat16 halves the memory of V * n_q * d numbers.

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, num_values: int, length: int, dim: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        for name, value in (("num_values", num_values), ("length", length), ("dim", dim)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.num_values, self.length = num_values, length
        # One spare row takes what is overwritten within a batch, so that no entry has to be filtered out.
        self.register_buffer("storage", torch.zeros(num_values * length + 1, dim, dtype=dtype))
        self.register_buffer("position", torch.zeros(num_values, dtype=torch.int64))
        self.register_buffer("count", torch.zeros(num_values, dtype=torch.int64))

    @property
    def features(self) -> Tensor:
        """``(V, n_q, d)`` view; slots beyond ``count`` hold zeros."""
        return self.storage[:-1].view(self.num_values, self.length, -1)

    @property
    def nbytes(self) -> int:
        """Memory of the stored features, bytes."""
        return self.storage.nbytes

    @torch.no_grad()
    def enqueue(self, features: Tensor, value_ids: Tensor) -> None:
        """Store ``(B, d)`` features under their flat value ids ``(B,)``; the oldest are overwritten.

        Raises:
            ValueError: shapes that do not fit.
        """
        if features.ndim != 2 or features.shape[1] != self.storage.shape[1] or value_ids.shape != features.shape[:1]:
            raise ValueError(
                f"features must be (B, {self.storage.shape[1]}) and value_ids (B,), got {tuple(features.shape)} and "
                f"{tuple(value_ids.shape)}"
            )
        ordered, order = value_ids.sort(stable=True)
        start = torch.searchsorted(ordered, ordered)
        # Place of each entry among those of its value in the batch.
        rank = torch.arange(len(ordered), device=ordered.device) - start
        arrived = torch.zeros_like(self.count).scatter_add_(0, ordered, torch.ones_like(ordered))
        slot = ordered * self.length + (self.position[ordered] + rank) % self.length
        overwritten = rank < arrived[ordered] - self.length
        slot = torch.where(overwritten, len(self.storage) - 1, slot)
        self.storage.index_copy_(0, slot, features[order].to(self.storage.dtype))
        self.storage[-1].zero_()  # whichever of several rows landed there: the saved state must not depend on it
        self.position.copy_((self.position + arrived) % self.length)
        self.count.copy_((self.count + arrived).clamp(max=self.length))

    def means(self) -> tuple[Tensor, Tensor]:
        """``(V, d)`` float32 mean of what each queue holds, and ``(V,)`` whether it holds anything."""
        total = self.features.sum(dim=1, dtype=torch.float32)
        return total / self.count.clamp(min=1).unsqueeze(1), self.count > 0
