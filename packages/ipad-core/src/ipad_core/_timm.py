"""timm, or an error that says what to install."""

from __future__ import annotations

try:
    import timm
except RuntimeError as error:  # torchvision built for another torch
    raise ImportError(
        f"timm cannot be imported: {error}. The installed torchvision was built for another torch; install the pair that "
        "belongs together, e.g. `pip install torch==2.13.0 torchvision==0.28.0` from the same index (CPU or CUDA)."
    ) from error

__all__ = ["timm"]
