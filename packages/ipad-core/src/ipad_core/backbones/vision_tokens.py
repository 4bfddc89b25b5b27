"""Vision transformers of timm as sequences of patch tokens, without a class token."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ipad_core._timm import timm
from ipad_core.backbones.trunk import Trunk, check_name, register_statistics


class ViTTokens(nn.Module):
    """Patch tokens of a timm vision transformer.

    Args:
        name: A timm ViT, e.g. ``vit_base_patch16_224``.
        image_size: Side of the input, px; position embeddings are resized to it.
        pretrained: Load timm's weights.
        options: Further arguments of ``timm.create_model``.

    Shape:
        images ``(B, 3, S, S)``, normalized with ``mean`` and ``std``; returns ``(B, N, C)`` with C = ``num_features``.

    Raises:
        ValueError: the network is no vision transformer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, image_size: int, pretrained: bool = False, **options: Any) -> None:
        super().__init__()
        check_name(name)
        try:
            self.vit = timm.create_model(name, pretrained=pretrained, img_size=image_size, num_classes=0, **options)
        except TypeError as error:
            raise ValueError(
                f"{name!r} cannot be built as a vision transformer of {image_size} px: {error}"
            ) from error
        if not hasattr(self.vit, "num_prefix_tokens"):
            raise ValueError(f"{name!r} is no vision transformer; give 'hybrid' or e.g. 'vit_base_patch16_224'")
        register_statistics(self, self.vit.pretrained_cfg)
        self.num_features: int = self.vit.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.vit.forward_features(images)[:, self.vit.num_prefix_tokens :]


class HybridTokens(nn.Module):
    """A small ViT over the feature map of a convolutional stem: the form that learns from few images.

    Args:
        stem: Makes the map.
        image_size: Side of the input, px.
        embed_dim: Width of the tokens.
        depth: Number of transformer blocks.
        num_heads: Heads of each block.
        mlp_ratio: Hidden width of each block's MLP over ``embed_dim``.

    Shape:
        as :class:`ViTTokens`.
    """

    def __init__(
        self, stem: Trunk, image_size: int, embed_dim: int = 128, depth: int = 2, num_heads: int = 4, mlp_ratio: float = 2.0
    ) -> None:  # fmt: skip
        super().__init__()
        side = -(-image_size // stem.stride)
        embed = partial(HybridEmbed, backbone=stem, feature_size=(side, side))
        with torch.no_grad():
            self.vit = VisionTransformer(
                img_size=image_size, patch_size=1, embed_layer=embed, embed_dim=embed_dim, depth=depth,
                num_heads=num_heads, mlp_ratio=mlp_ratio, class_token=False, global_pool="", num_classes=0,
            )  # fmt: skip
        self.num_features = embed_dim

    @property
    def mean(self) -> Tensor:
        return self.stem.mean

    @property
    def std(self) -> Tensor:
        return self.stem.std

    @property
    def stem(self) -> Trunk:
        """The convolutional stem."""
        return self.vit.patch_embed.backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.vit.forward_features(images)
