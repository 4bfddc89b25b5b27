"""Batches on the device, the next one copied while a step runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor


class DeviceBatches:
    """The batches of a loader, in its order, on a device.

    On a GPU, :meth:`fetch` takes the next batch from the loader and starts its copy on a stream of its own, so that it
    travels while the kernels of the step run that were launched before. On a CPU batches are taken when they are asked for,
    and nothing else happens. What the loader raises, its end as well, is raised for the batch that it belongs to.

    Args:
        batches: What the loader yields: tensors by name, pinned where the copy is to be in the background.
        device: Where to.
        ahead: Whether :meth:`fetch` takes a batch; by default on a GPU.
    """

    def __init__(self, batches: Iterator[dict[str, Tensor]], device: torch.device, ahead: bool | None = None) -> None:
        on_gpu = device.type == "cuda"
        self.batches, self.device = batches, device
        self._ahead = on_gpu if ahead is None else ahead
        self._stream = torch.cuda.Stream(device) if on_gpu else None
        self._next: dict[str, Tensor] | Exception | None = None

    def __iter__(self) -> DeviceBatches:
        return self

    def __next__(self) -> dict[str, Tensor]:
        found, self._next = self._take() if self._next is None else self._next, None
        if isinstance(found, Exception):
            raise found
        if self._stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            for tensor in found.values():
                tensor.record_stream(current)  # whose kernels read it: its memory is not given away before
        return found

    def fetch(self) -> None:
        """Take the next batch ahead; to be called where the device has work to do. Waits for the loader only."""
        if self._ahead and self._next is None:
            self._next = self._take()

    def _take(self) -> dict[str, Tensor] | Exception:
        try:
            read = next(self.batches)
        except Exception as error:  # for the batch that is not there
            return error
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            return {key: value.to(self.device, non_blocking=True) for key, value in read.items()}
