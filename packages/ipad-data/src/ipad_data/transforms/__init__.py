"""Decoding in the workers, augmentation on the device."""

from __future__ import annotations

from ipad_data.transforms.anchor_views import AnchorViews
from ipad_data.transforms.augmentation import BatchAugmentation
from ipad_data.transforms.decode import decode_image

__all__ = ["AnchorViews", "BatchAugmentation", "decode_image"]
