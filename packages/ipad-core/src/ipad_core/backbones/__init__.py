"""Networks of timm, cut to what the branches read."""

from ipad_core.backbones.trunk import Trunk
from ipad_core.backbones.trunk_mapping import (
    TRUNK_ARGUMENTS,
    build_trunk,
    overlay_options,
    trunk_mapping,
    without_weights,
)
from ipad_core.backbones.vision_tokens import HybridTokens, ViTTokens, build_tokens

__all__ = [
    "TRUNK_ARGUMENTS",
    "HybridTokens",
    "Trunk",
    "ViTTokens",
    "build_tokens",
    "build_trunk",
    "overlay_options",
    "trunk_mapping",
    "without_weights",
]
