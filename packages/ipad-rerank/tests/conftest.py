"""What several tests measure with."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LargestStorage(TorchDispatchMode):
    """Remembers the most bytes behind any tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                self.bytes = max(self.bytes, value.untyped_storage().nbytes())
        return result


@pytest.fixture
def largest_storage():
    """``largest_storage(call) -> bytes`` of the largest tensor that any operation of ``call()`` returned."""

    def measure(call):
        with LargestStorage() as largest:
            call()
        return largest.bytes

    return measure
