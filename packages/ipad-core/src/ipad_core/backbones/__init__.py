"""Networks of timm, cut to what the branches read."""

from ipad_core.backbones.trunk import Trunk
from ipad_core.backbones.vision_tokens import HybridTokens, ViTTokens

__all__ = ["HybridTokens", "Trunk", "ViTTokens"]
