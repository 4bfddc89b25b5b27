"""Networks of timm, cut to what the branches read."""

from ipad_core.backbones.trunk import Trunk
from ipad_core.backbones.trunk_mapping import (
    TRUNK_ARGUMENTS,
    VECTORS,
    build_trunk,
    overlay_options,
    trunk_mapping,
    without_weights,
)
from ipad_core.backbones.vectors import Vectors
from ipad_core.backbones.vision_tokens import HybridTokens, ViTTokens, build_tokens, check_has_images

__all__ = [
    "TRUNK_ARGUMENTS",
    "VECTORS",
    "HybridTokens",
    "Trunk",
    "Vectors",
    "ViTTokens",
    "build_tokens",
    "build_trunk",
    "check_has_images",
    "overlay_options",
    "trunk_mapping",
    "without_weights",
]
